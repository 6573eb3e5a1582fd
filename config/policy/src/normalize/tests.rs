#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[test]
fn normal_paths_are_not_copied() {
    for path in ["/", "/orders", "/orders/", "/a/b.c/d-e_f~g", "/v1/items:delete", "/a,b/@me/x=1/(y)*'!$&+"] {
        assert!(matches!(normalize_path(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
    }
}

#[test]
fn equal_paths_become_equal_bytes() {
    for (path, normal) in [
        ("/%61dmin", "/admin"),
        ("/a%2Db", "/a-b"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%3ab", "/a%3Ab"),
        ("//admin", "/admin"),
        ("/a///b", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/info/../private", "/private"),
        ("/info/%2e%2e/private", "/private"),
        ("/info/%2E./private", "/private"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/.", "/"),
        ("/a//../b", "/b"),
        ("/.well-known/x", "/.well-known/x"),
        ("/...", "/..."),
        ("/100%25", "/100%25"),
        ("/50%25-off", "/50%25-off"),
        ("/a%20b", "/a%20b"),
        ("/a{b}|c", "/a%7Bb%7D%7Cc"),
    ] {
        assert_eq!(normalize_path(path).unwrap(), normal, "{path}");
    }
}

#[test]
fn every_known_trick_is_refused_or_resolved() {
    use PathRejection::*;
    for (path, why) in [
        ("", Relative),
        ("admin", Relative),
        ("*", Relative),
        ("/a%2fb", EncodedSlash),
        ("/..%2Fadmin", EncodedSlash),
        ("/%2e%2e%2fadmin", EncodedSlash),
        ("/a%5cb", EncodedBackslash),
        ("/a\\..\\admin", Backslash),
        ("/admin%00.png", EncodedNul),
        ("/%252e%252e/admin", DoubleEncoding),
        ("/%25%32%65%25%32%65/admin", DoubleEncoding),
        ("/a%252fb", DoubleEncoding),
        ("/%2%66", BrokenEncoding),
        ("/%", BrokenEncoding),
        ("/%g0", BrokenEncoding),
        ("/%1", BrokenEncoding),
        ("/..", AboveRoot),
        ("/a/../../admin", AboveRoot),
        ("/%2e%2e/admin", AboveRoot),
        ("/admin;x=1", Parameter),
        ("/;/admin", Parameter),
        ("/..;/admin", Parameter),
        ("/a b", Byte(b' ')),
        ("/a\tb", Byte(b'\t')),
        ("/a?b", Byte(b'?')),
        ("/a#b", Byte(b'#')),
        ("/caf\u{e9}", Byte(0xc3)),
        ("/a\u{7f}", Byte(0x7f)),
    ] {
        assert_eq!(normalize_path(path), Err(why), "{path}");
    }
}

#[test]
fn matching_sees_through_escapes() {
    assert!(decodes_to("items:delete", "items:delete"));
    assert!(decodes_to("items%3Adelete", "items:delete"));
    assert!(decodes_to("caf%C3%A9", "caf\u{e9}"));
    assert!(decodes_to("100%25", "100%"));
    assert!(!decodes_to("items%3Adelet", "items:delete"));
    assert!(!decodes_to("items%3Adeletes", "items:delete"));
    assert!(!decodes_to("%3A", ""));
}

/// Pieces from which bypasses are built, in any order.
fn tricky_path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "//", ".", "..", "%2e", "%2E%2e", "%25", "%32", "%65", "%2f", "%5c", "a", "admin", "%61",
        "%c3%a9", ";", "\\", "%", "%3a", ":", "%20", "~", "{", "%7b", "2", "e", "%00",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// Decoding in the plainest way.
fn decoded(segment: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let (value, tail) = match byte {
            b'%' => split_escape(tail).unwrap_or((byte, tail)),
            _ => (byte, tail),
        };
        (out, rest) = ([out, vec![value]].concat(), tail);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn matching_compares_what_is_decoded(segment in "([%aA:]|%25|%3A|%4){0,4}", literal in "[%aA:]{0,3}") {
        prop_assert_eq!(decodes_to(&segment, &literal), decoded(&segment) == literal.as_bytes());
    }

    #[test]
    fn what_looks_normal_is(path in "/[/.%;a~\\\\ -]{0,6}") {
        if is_normal(path.as_bytes()) {
            prop_assert_eq!(decode_unreserved(path.as_bytes()).and_then(|path| resolve_segments(&path)), Ok(path));
        } else {
            let odd = path.contains("//") || path.contains("/.") || path.contains(['%', ';', '\\', ' ']);
            prop_assert!(odd, "{} is refused the fast way for nothing", path);
        }
    }

    #[test]
    fn is_idempotent(path in tricky_path()) {
        if let Ok(once) = normalize_path(&path) {
            prop_assert_eq!(normalize_path(&once).unwrap(), once.as_ref(), "{}", path);
        }
    }

    #[test]
    fn leaves_nothing_ambiguous(path in tricky_path()) {
        if let Ok(normal) = normalize_path(&path) {
            prop_assert!(normal.starts_with('/'));
            prop_assert!(!normal.contains("//"));
            prop_assert!(normal.split('/').all(|s| s != "." && s != ".."));
            let lower = normal.to_ascii_lowercase();
            for bad in ["%2f", "%5c", "%00", "%2e", "%61", "\\", ";"] {
                prop_assert!(!lower.contains(bad), "{} in {}", bad, normal);
            }
        }
    }

    #[test]
    fn any_text_is_handled_without_panic(path in "\\PC{0,60}") {
        let _ = normalize_path(&path);
        let _ = normalize_path(&format!("/{path}"));
    }
}
