//! Selectors: what attestation found out about a workload, and what an entry asks for.
//!
//! Owns their comparison and printing. It must never look at a process; attestors do that.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// One fact about a workload, `TYPE:VALUE`, such as `unix:uid:1000`. The type has no colon, the value may.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Selector {
    /// The attestor that found it, such as `unix`.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    /// What it found, such as `uid:1000`.
    pub value: Arc<str>,
}

impl Selector {
    /// A selector of its two halves.
    #[must_use]
    pub fn new(kind: &str, value: impl AsRef<str>) -> Self {
        Self { kind: kind.into(), value: value.as_ref().into() }
    }
}

impl Selector {
    /// The selector for the log: what a workload was started with as a variable (`env:NAME=VALUE`, of any kind) may be
    /// a password.
    #[must_use]
    pub fn without_secrets(&self) -> String {
        let variable = self.value.strip_prefix("env:");
        match variable.and_then(|variable| variable.split_once('=')) {
            Some((name, _)) => format!("{}:env:{name}=…", self.kind),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

/// Selectors in order and without duplicates. Cheap to clone, and a key of maps: workloads with equal
/// selectors share everything that follows from them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Selector>")]
pub struct SelectorSet(Arc<[Selector]>);

impl SelectorSet {
    /// Whether the set has `selector`.
    #[must_use]
    pub fn contains(&self, selector: &Selector) -> bool {
        self.0.binary_search(selector).is_ok()
    }

    /// Whether every one of `required` is in this set: the rule by which an entry matches a workload.
    #[must_use]
    pub fn covers(&self, required: &Self) -> bool {
        required.iter().all(|selector| self.contains(selector))
    }

    /// The selectors, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Selector> {
        self.0.iter()
    }

    /// The smallest selector, under which an entry is indexed.
    #[must_use]
    pub fn first(&self) -> Option<&Selector> {
        self.0.first()
    }

    /// The selectors for the log; see [`Selector::without_secrets`].
    #[must_use]
    pub fn without_secrets(&self) -> String {
        let texts: Vec<_> = self.iter().map(Selector::without_secrets).collect();
        texts.join(" ")
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Selector> for SelectorSet {
    fn from_iter<I: IntoIterator<Item = Selector>>(selectors: I) -> Self {
        Self(selectors.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
    }
}

impl From<Vec<Selector>> for SelectorSet {
    fn from(selectors: Vec<Selector>) -> Self {
        selectors.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a SelectorSet {
    type Item = &'a Selector;
    type IntoIter = std::slice::Iter<'a, Selector>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for SelectorSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, selector) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            selector.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for SelectorSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(ToString::to_string)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[&str]) -> SelectorSet {
        values.iter().map(|value| Selector::new("unix", value)).collect()
    }

    #[test]
    fn an_entry_matches_when_all_its_selectors_were_found() {
        let workload = set(&["uid:1", "gid:2", "path:/bin/a"]);
        assert!(workload.covers(&set(&["uid:1"])));
        assert!(workload.covers(&set(&["path:/bin/a", "gid:2"])));
        assert!(!workload.covers(&set(&["uid:1", "gid:3"])));
    }

    #[test]
    fn values_of_variables_stay_out_of_the_log() {
        for kind in ["docker", "another"] {
            let set: SelectorSet = ["env:DB_PASSWORD=a=b", "label:env:x=y", "env:EMPTY", "image_id:a"]
                .iter()
                .map(|value| Selector::new(kind, value))
                .collect();
            let shown = ["env:DB_PASSWORD=…", "env:EMPTY", "image_id:a", "label:env:x=y"];
            assert_eq!(set.without_secrets(), shown.map(|value| format!("{kind}:{value}")).join(" "));
        }
    }

    #[test]
    fn order_and_duplicates_do_not_make_a_difference() {
        assert_eq!(set(&["b", "a", "b"]), set(&["a", "b"]));
        assert_eq!(set(&["b", "a"]).to_string(), "unix:a unix:b");
    }
}
