//! DNS names that may stand in an SVID (RFC 1123 §2.1, RFC 1034 §3.5).

use crate::AuthorityError;

/// Checks a name: at most 253 characters, labels of 1 to 63 letters, digits, `-` and `_`, no `-` at either
/// end of a label; the first label may be `*`.
///
/// # Errors
/// [`AuthorityError::DnsName`] with the rule that it breaks.
pub fn check(name: &str) -> Result<(), AuthorityError> {
    let refuse = |reason| Err(AuthorityError::DnsName { name: name.to_owned(), reason });
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > 253 {
        return refuse("it is longer than 253 characters");
    }
    for label in name.strip_prefix("*.").unwrap_or(name).split('.') {
        if label.is_empty() {
            return refuse("it has an empty label");
        }
        if label.len() > 63 {
            return refuse("a label is longer than 63 characters");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return refuse("a label begins or ends with `-`");
        }
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            return refuse(
                "only letters, digits, `-`, `_` and `.` are allowed, and `*` as the whole first label",
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn names_follow_the_host_rules() {
        for good in ["a", "shop.demo.org", "*.demo.org", "x_1.demo", "1.2.3.4", &"a".repeat(63)] {
            assert!(check(good).is_ok(), "{good}");
        }
        let long = ["a".repeat(60).as_str(); 5].join(".");
        for bad in
            ["", ".", "a.", ".a", "a..b", "-a", "a-", "*", "a.*.b", "ä.org", "a b", &"a".repeat(64), &long]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
