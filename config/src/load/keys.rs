//! Keys: how they are written as one text, and which known key a misspelt one was meant to be.

/// `parent.key`, or `key` at the top level.
pub(crate) fn child(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// `parent[index]`.
pub(super) fn item(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}

/// The key around `key`: `a.b[0]` → `a.b` → `a` → ``.
pub(super) fn parent(key: &str) -> Option<&str> {
    if key.is_empty() {
        return None;
    }
    let cut = key.rfind(['.', '[']).unwrap_or(0);
    key.get(..cut)
}

/// The known name that `found` was probably meant to be.
pub(crate) fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
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
