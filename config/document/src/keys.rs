//! Keys: how they are written as one text, and which known key a misspelt one was meant to be.

use std::fmt;

/// `parent.key`, or `key` at the top level.
#[must_use]
pub fn child(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// `parent[index]`.
#[must_use]
pub fn item(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}

/// The key around `key`: `a.b[0]` → `a.b` → `a` → ``.
#[must_use]
pub fn parent(key: &str) -> Option<&str> {
    if key.is_empty() {
        return None;
    }
    let cut = key.rfind(['.', '[']).unwrap_or(0);
    key.get(..cut)
}

/// A key on the way to it, written out only where something is wrong with it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way<'w> {
    /// The document as a whole.
    Root,
    /// A key of a mapping.
    Key(&'w Self, &'w str),
    /// An item of a list.
    Item(&'w Self, usize),
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The known name that `found` was probably meant to be.
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = canonical(found);
    // One slip per three characters, so that short names do not turn into each other.
    let allowed = (found.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&found, &canonical(name)), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The same for `bindPort`, `bind-port`, `BIND_PORT` and `bind_port`.
fn canonical(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | '.')).flat_map(char::to_lowercase).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_and_taken_apart() {
        assert_eq!(child("", "log"), "log");
        assert_eq!(child(&item("inbound", 2), "name"), "inbound[2].name");
        let (inbound, root) = (Way::Key(&Way::Root, "inbound"), Way::Root);
        assert_eq!(Way::Key(&Way::Item(&inbound, 2), "name").to_string(), "inbound[2].name");
        assert_eq!(root.to_string(), "");
        let mut key = "inbound[2].limits.max_headers";
        let mut around = vec![];
        while let Some(up) = parent(key) {
            around.push(up);
            key = up;
        }
        assert_eq!(around, ["inbound[2].limits", "inbound[2]", "inbound", ""]);
    }

    #[test]
    fn the_nearest_key_is_near() {
        let known = ["trust_domain", "bind_port", "bind_address", "log"];
        for (found, meant) in [
            ("trustdomain", Some("trust_domain")),
            ("bindPort", Some("bind_port")),
            ("bind-addres", Some("bind_address")),
            ("trsut_domain", Some("trust_domain")),
            ("lgo", Some("log")),
            ("plugins", None),
            ("", None),
        ] {
            assert_eq!(nearest(found, known), meant, "{found}");
        }
    }
}
