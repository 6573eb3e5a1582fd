//! From one version of HTTP to the other: what stands elsewhere, or has no place, in the version that is sent.
//!
//! Pure functions over heads from which `hops` has taken what belongs to one connection. Codecs write what they are
//! given; nothing but framing is decided there.

use http::StatusCode;

use crate::message::{Fields, RequestHead, ResponseHead, Version, is_authority};

/// Gives a request the form that HTTP/1 wants: an origin-form target and a `Host` field. An authority in the target wins
/// over `Host` (RFC 9112 §3.2.2); a `Host` that was not there goes first (RFC 9110 §7.2).
pub fn to_http1(head: &mut RequestHead) {
    if !head.authority.is_empty() {
        head.fields.set_first("host", head.authority.as_bytes());
        head.authority.clear();
    }
    head.scheme.clear();
    if head.target.is_empty() {
        head.target.push('/');
    }
    if head.version == Version::Http2 {
        head.version = Version::Http11;
        join_cookies(&mut head.fields);
    }
}

/// Gives a request the form that HTTP/2 wants: scheme and authority beside the target, no `Host` field
/// (RFC 9113 §8.3.1). `fallback` is the authority of a request that names none.
pub fn to_http2(head: &mut RequestHead, scheme: &str, fallback: &str) {
    if head.authority.is_empty() {
        let host = head.fields.get("host").filter(|host| is_authority(host));
        let host = host.and_then(|host| std::str::from_utf8(host).ok());
        head.authority.push_str(host.unwrap_or(fallback));
    }
    head.fields.remove("host");
    head.scheme.clear();
    head.scheme.push_str(scheme);
    if head.target.is_empty() {
        head.target.push('/');
    }
    head.version = Version::Http2;
}

/// Gives a response the words after the status that only HTTP/1 has.
pub fn response_to_http1(head: &mut ResponseHead) {
    if head.version == Version::Http2 {
        head.version = Version::Http11;
        let reason = StatusCode::from_u16(head.status).ok().and_then(|status| status.canonical_reason());
        head.reason.extend_from_slice(reason.unwrap_or_default().as_bytes());
    }
}

/// HTTP/2 may send a cookie in crumbs; HTTP/1 has one field for all of them (RFC 9113 §8.2.3).
fn join_cookies(fields: &mut Fields) {
    let mut crumbs = fields.get_all("cookie");
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = first.to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb);
    }
    fields.set("cookie", &joined);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, authority: &str, fields: &[(&str, &str)]) -> RequestHead {
        let fields = fields.iter().copied().collect();
        RequestHead {
            version,
            method: "GET".into(),
            scheme: "https".into(),
            authority: authority.into(),
            target: "/path?q=1".into(),
            fields,
            ..RequestHead::default()
        }
    }

    #[test]
    fn the_authority_of_the_target_wins_over_host() {
        let mut head = request(Version::Http11, "real", &[("Accept", "*/*"), ("Host", "other"), ("A", "b")]);
        to_http1(&mut head);
        assert_eq!(
            (head.target.as_str(), head.authority.as_str(), head.scheme.as_str()),
            ("/path?q=1", "", "")
        );
        assert_eq!(head.fields, [("Accept", "*/*"), ("Host", "real"), ("A", "b")].into_iter().collect());
    }

    #[test]
    fn a_request_of_http2_gets_one_host_and_one_cookie() {
        let fields = [("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2"), ("cookie", "c=3")];
        let mut head = request(Version::Http2, "demo:80", &fields);
        to_http1(&mut head);
        assert_eq!(head.version, Version::Http11);
        let expected = [("host", "demo:80"), ("cookie", "a=1; b=2; c=3"), ("accept", "*/*")];
        assert_eq!(head.fields, expected.into_iter().collect());
    }

    #[test]
    fn http_1_0_stays_what_it_is() {
        let mut head = request(Version::Http10, "", &[]);
        to_http1(&mut head);
        assert_eq!(head.version, Version::Http10);
        assert!(head.fields.is_empty());
    }

    #[test]
    fn http2_takes_the_authority_from_host() {
        for (authority, host, expected) in [
            ("", Some("demo:80"), "demo:80"),
            ("real", Some("other"), "real"),
            ("", Some("not a host"), "fallback:1"),
            ("", None, "fallback:1"),
        ] {
            let host: Vec<_> = host.map(|host| ("Host", host)).into_iter().collect();
            let mut head = request(Version::Http11, authority, &host);
            to_http2(&mut head, "http", "fallback:1");
            assert_eq!((head.authority.as_str(), head.scheme.as_str()), (expected, "http"));
            assert!(head.fields.is_empty());
            assert_eq!(head.version, Version::Http2);
        }
    }

    #[test]
    fn a_response_of_http2_gets_the_words_of_its_status() {
        for (version, status, reason) in
            [(Version::Http2, 404, "Not Found"), (Version::Http2, 299, ""), (Version::Http11, 404, "Nowhere")]
        {
            let mut head = ResponseHead { version, status, ..ResponseHead::default() };
            if version == Version::Http11 {
                head.reason.extend_from_slice(b"Nowhere");
            }
            response_to_http1(&mut head);
            assert_eq!(head.reason, reason.as_bytes());
        }
    }
}
