//! Why a workload has, or has not, an identity.
//!
//! Owns the comparison of selectors with entries for people: which entries match, which come closest and
//! what each lacks. Pure; the log line of a refusal and the `why` command say the same because both ask here.

use std::{fmt::Write as _, sync::Arc};

use crate::{
    entry::{Entry, by_age, drop_repeated_hints},
    selector::{Selector, SelectorSet},
};

/// Entries shown as closest.
const MAX_CLOSEST: usize = 5;

/// An entry that does not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// The entry.
    pub entry: Arc<Entry>,
    /// The selectors that the workload has not.
    pub missing: Vec<Selector>,
}

/// All there is to say about selectors and entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Entries that match, in the order in which the workload sees them.
    pub matched: Vec<Arc<Entry>>,
    /// Entries that match, but whose hint an older one has already.
    pub dropped: Vec<Arc<Entry>>,
    /// Entries that do not match, the closest first; at most five.
    pub closest: Vec<Near>,
    /// How many entries this agent has in all.
    pub total: usize,
}

/// Compares `selectors` with all `entries`.
pub fn explain<'a>(
    selectors: &SelectorSet,
    entries: impl IntoIterator<Item = &'a Arc<Entry>>,
) -> Explanation {
    let (mut matched, mut near, mut total) = (Vec::new(), Vec::new(), 0);
    for entry in entries {
        total += 1;
        let missing: Vec<Selector> =
            entry.selectors.iter().filter(|required| !selectors.contains(required)).cloned().collect();
        if missing.is_empty() {
            matched.push(Arc::clone(entry));
        } else {
            near.push(Near { entry: Arc::clone(entry), missing });
        }
    }
    matched.sort_by(|a, b| by_age(a, b));
    let dropped = drop_repeated_hints(&mut matched);
    // Few missing first; of those the one with most in common; then by age, so that the answer is stable.
    near.sort_by(|a, b| {
        let in_common = |near: &Near| near.entry.selectors.len() - near.missing.len();
        a.missing
            .len()
            .cmp(&b.missing.len())
            .then_with(|| in_common(b).cmp(&in_common(a)))
            .then_with(|| by_age(&a.entry, &b.entry))
    });
    near.truncate(MAX_CLOSEST);
    Explanation { matched, dropped, closest: near, total }
}

/// Whether some entry does not match for lack of selectors of these `kinds` alone.
pub fn lacks_only<'a>(
    selectors: &SelectorSet,
    kinds: &[&str],
    entries: impl IntoIterator<Item = &'a Arc<Entry>>,
) -> bool {
    entries.into_iter().any(|entry| {
        let mut missing = entry.selectors.iter().filter(|required| !selectors.contains(required)).peekable();
        missing.peek().is_some() && missing.all(|selector| kinds.contains(&&*selector.kind))
    })
}

impl Explanation {
    /// One sentence for the log of a refusal.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = match self.total {
            0 => {
                return "this agent has no entries; is the parent ID of the entry this agent's SPIFFE ID?"
                    .into();
            }
            total => format!("{} of {total} entries match", self.matched.len()),
        };
        if let Some(near) = self.closest.first() {
            let missing: Vec<_> = near.missing.iter().map(Selector::without_secrets).collect();
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "; closest is {} (entry {}), missing {}",
                near.entry.spiffe_id,
                near.entry.id,
                missing.join(", ")
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::entry;

    fn selectors(values: &[&str]) -> SelectorSet {
        values.iter().map(|value| Selector::new("unix", value)).collect()
    }

    #[test]
    fn entries_that_lack_selectors_of_one_kind_only_are_noticed() {
        let of = |selectors: &[(&str, &str)]| {
            let selectors = selectors.iter().map(|(kind, value)| Selector::new(kind, value)).collect();
            [Arc::new(Entry { selectors, ..entry("e", "/e", &[]) })]
        };
        let known = selectors(&["uid:1"]);
        let lacks = |entries: &[Arc<Entry>]| lacks_only(&known, &["docker"], entries);
        assert!(lacks(&of(&[("docker", "label:a:b")])));
        assert!(lacks(&of(&[("docker", "label:a:b"), ("unix", "uid:1")])));
        assert!(!lacks(&of(&[("docker", "label:a:b"), ("unix", "uid:2")])));
        assert!(!lacks(&of(&[("unix", "uid:1")])), "it matches");
        assert!(!lacks(&[]));
    }

    #[test]
    fn the_closest_entry_is_the_one_that_lacks_least() {
        let entries = [
            Arc::new(entry("far", "/far", &["uid:9", "gid:9"])),
            Arc::new(entry("one-of-one", "/a", &["uid:8"])),
            Arc::new(entry("one-of-two", "/b", &["uid:1", "path:/bin/b"])),
            Arc::new(entry("match", "/c", &["uid:1"])),
        ];
        let found = explain(&selectors(&["uid:1", "gid:1"]), &entries);
        assert_eq!(found.matched.len(), 1);
        assert_eq!(found.total, 4);
        let closest: Vec<_> = found.closest.iter().map(|near| near.entry.id.as_ref()).collect();
        assert_eq!(closest, ["one-of-two", "one-of-one", "far"]);
        assert_eq!(
            found.summary(),
            "1 of 4 entries match; closest is spiffe://demo.org/b (entry one-of-two), missing unix:path:/bin/b"
        );
    }

    #[test]
    fn no_entries_at_all_points_at_the_parent() {
        let none: [Arc<Entry>; 0] = [];
        assert!(explain(&selectors(&["uid:1"]), &none).summary().contains("parent ID"));
    }
}
