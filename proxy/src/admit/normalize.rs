//! The target and the host of a request, in the one form that the policy sees and the app gets: a host without a final dot, which
//! names the same one.
//!
//! Owns what is refused because two programs might read it differently. Must never let through what it changed only
//! for the decision: what is decided about is what is forwarded.

use std::borrow::Cow;

use svidecar_code::Code;
use svidecar_policy::normalize::normalize_path;

use crate::message::{RequestHead, Version, is_authority, refusal::Refusal};

/// What is done about the form of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// It gets the one that policy and app read alike: toward an app.
    Normal,
    /// It keeps its own, for the other end to judge: toward an upstream, to which every target leads.
    AsItCame,
}

impl Form {
    /// Gives a request this form.
    ///
    /// # Errors
    /// What to answer to a request that cannot have it.
    pub fn give(self, head: &mut RequestHead) -> Result<(), Refusal> {
        match self {
            Self::Normal => normalize(head),
            Self::AsItCame if head.method == "CONNECT" => {
                let detail = "CONNECT is not served; each outbound listener leads to one upstream";
                Err(Refusal::new(Code::MethodNotAllowed, detail))
            }
            Self::AsItCame => Ok(()),
        }
    }
}

/// Brings the target into its normal form.
///
/// # Errors
/// 400 for a path or a host that two programs might read differently, 405 for CONNECT, which has no path.
pub fn normalize(head: &mut RequestHead) -> Result<(), Refusal> {
    if head.method == "CONNECT" {
        let detail = "CONNECT is not served here";
        return Err(Refusal::new(Code::MethodNotAllowed, detail));
    }
    check_host(head).map_err(|detail| Refusal::new(Code::BadRequest, detail).closing())?;
    let is_options = head.method == "OPTIONS";
    if head.path().is_empty() {
        // `http://host` and `http://host?query` (RFC 9112 §3.2.1 and §3.2.4).
        head.target.insert(0, if is_options && head.target.is_empty() { '*' } else { '/' });
    }
    let path = head.path();
    if path == "*" && is_options {
        return Ok(());
    }
    let end = path.len();
    let normalized = normalize_path(path).map_err(|rejection| {
        let detail = format!("the path of the request is ambiguous: {rejection}");
        Refusal::new(Code::AmbiguousPath, detail)
    })?;
    if let Cow::Owned(normalized) = normalized {
        head.target.replace_range(..end, &normalized);
    }
    Ok(())
}

/// A request names one host, once: of two, the policy might read the first and the app the last. An authority in the
/// target wins and replaces the field (RFC 9112 §3.2; RFC 9113 §8.3.1).
fn check_host(head: &mut RequestHead) -> Result<(), &'static str> {
    let (field, second) = {
        let mut fields = head.fields.get_all("host");
        (fields.next(), fields.next())
    };
    if second.is_some() {
        return Err("the request has more than one Host field");
    }
    let is_in_target = !head.authority.is_empty();
    let (host, why) = match field {
        _ if is_in_target => {
            (head.authority.as_bytes(), "the authority of the request's target is not a host")
        }
        Some(host) => (host, "the Host field of the request is not a host"),
        None if head.version == Version::Http11 => {
            return Err("the request has no Host field, which HTTP/1.1 demands");
        }
        None => return Ok(()),
    };
    if !is_authority(host) {
        return Err(why);
    }
    let Some(normal) = without_final_dots(host) else { return Ok(()) };
    if !is_authority(&normal) {
        return Err(why);
    }
    if is_in_target {
        head.authority = String::from_utf8(normal).map_err(|_| why)?;
    } else {
        head.fields.set("host", &normal);
    }
    Ok(())
}

/// The authority without dots at the end of its name, if it has any.
fn without_final_dots(authority: &[u8]) -> Option<Vec<u8>> {
    let before_port = authority.iter().rposition(|byte| !byte.is_ascii_digit());
    let end = before_port.filter(|at| authority.get(*at) == Some(&b':')).unwrap_or(authority.len());
    let (mut name, port) = authority.split_at_checked(end)?;
    if !name.ends_with(b".") {
        return None;
    }
    while let Some(shorter) = name.strip_suffix(b".") {
        name = shorter;
    }
    Some([name, port].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: Version, method: &str, authority: &str, target: &str, hosts: &[&str]) -> RequestHead {
        RequestHead {
            version,
            method: method.into(),
            authority: authority.into(),
            target: target.into(),
            fields: hosts.iter().map(|host| ("Host", *host)).collect(),
            ..RequestHead::default()
        }
    }

    #[test]
    fn a_request_names_one_host() {
        for (version, authority, hosts, fine) in [
            (Version::Http11, "", &["orders.internal"][..], true),
            (Version::Http11, "", &["orders.internal:8080"], true),
            (Version::Http11, "", &["orders_1.internal:"], true),
            (Version::Http11, "", &["[::1]:8080"], true),
            (Version::Http11, "", &["[fe80::1%25eth0]"], true),
            (Version::Http11, "orders.internal", &["other"], true),
            (Version::Http2, "orders.internal", &[], true),
            (Version::Http2, "", &[], true),
            (Version::Http10, "", &[], true),
            (Version::Http11, "", &[], false),
            (Version::Http11, "", &["orders.internal", "evil.example"], false),
            (Version::Http11, "orders.internal", &["a", "b"], false),
            (Version::Http11, "user@orders.internal", &[], false),
            (Version::Http2, "orders.internal/evil", &[], false),
            (Version::Http11, "", &["orders.internal/evil"], false),
            (Version::Http11, "", &["evil@orders.internal"], false),
            (Version::Http11, "", &["orders.internal:80:80"], false),
            (Version::Http11, "", &["orders.internal:8080x"], false),
            (Version::Http11, "", &["[::1"], false),
            (Version::Http11, "", &["[]"], false),
            (Version::Http11, "", &["[::1]x"], false),
            (Version::Http11, "", &["a%2eb"], false),
            (Version::Http11, "", &["a, b"], false),
            (Version::Http11, "", &["a,b"], false),
            (Version::Http11, "", &["a\u{e9}"], false),
            (Version::Http11, "", &[":80"], false),
            (Version::Http11, "", &["."], false),
            (Version::Http2, "..:80", &[], false),
            (Version::Http11, "", &[""], false),
        ] {
            let outcome = normalize(&mut head(version, "GET", authority, "/a", hosts));
            assert_eq!(outcome.is_ok(), fine, "{version:?} {authority} {hosts:?}");
        }
    }

    #[test]
    fn a_host_has_no_final_dot() {
        for (authority, hosts, host) in [
            ("", &["orders.internal."][..], "orders.internal"),
            ("", &["orders.internal..:8080"], "orders.internal:8080"),
            ("", &["orders.internal:8080"], "orders.internal:8080"),
            ("", &["[::1]:80"], "[::1]:80"),
            ("", &["[::1]"], "[::1]"),
            ("", &["10.0.0.1"], "10.0.0.1"),
            ("", &["10.0.0.1.:"], "10.0.0.1:"),
            ("orders.internal.:1", &[], "orders.internal:1"),
            ("orders.internal.", &["other."], "orders.internal"),
        ] {
            let mut head = head(Version::Http11, "GET", authority, "/a", hosts);
            normalize(&mut head).unwrap();
            assert_eq!(head.host(), Some(host), "{authority} {hosts:?}");
        }
    }

    #[test]
    fn the_target_gets_its_normal_form() {
        for (method, target, normal) in [
            ("GET", "/a/./%61?x=%2F..", Some("/a/a?x=%2F..")),
            ("GET", "/a", Some("/a")),
            ("GET", "", Some("/")),
            ("GET", "?x", Some("/?x")),
            ("OPTIONS", "*", Some("*")),
            ("OPTIONS", "", Some("*")),
            ("GET", "*", None),
            ("GET", "/a%2fb", None),
            ("GET", "/../a", None),
            ("GET", "a", None),
            ("CONNECT", "", None),
        ] {
            let mut head = head(Version::Http11, method, "demo", target, &[]);
            let outcome = normalize(&mut head);
            assert_eq!(outcome.is_ok().then_some(head.target.as_str()), normal, "{method} {target}");
        }
    }

    #[test]
    fn only_a_request_to_an_app_needs_the_normal_form() {
        for (form, method, target, given) in [
            (Form::Normal, "GET", "/a/./b", Ok("/a/b")),
            (Form::Normal, "GET", "/a%2fb", Err(Code::AmbiguousPath)),
            (Form::Normal, "CONNECT", "", Err(Code::MethodNotAllowed)),
            (Form::AsItCame, "GET", "/a/./b", Ok("/a/./b")),
            (Form::AsItCame, "GET", "/a%2fb", Ok("/a%2fb")),
            (Form::AsItCame, "CONNECT", "", Err(Code::MethodNotAllowed)),
        ] {
            let mut head = head(Version::Http11, method, "demo", target, &[]);
            let outcome = form.give(&mut head).map_err(|refusal| refusal.code);
            assert_eq!(outcome.map(|()| head.target.as_str()), given, "{form:?} {method} {target}");
        }
    }
}
