//! The static table (RFC 7541 Appendix A).

use super::super::field::Kind;

/// The entries, from index 1 on: name, value, and what the field is. Some stand for their names alone: with no value they are not
/// what HTTP allows.
const ENTRIES: [(&str, &str, Kind); 61] = [
    (":authority", "", Kind::Malformed),
    (":method", "GET", Kind::Method),
    (":method", "POST", Kind::Method),
    (":path", "/", Kind::Path),
    (":path", "/index.html", Kind::Path),
    (":scheme", "http", Kind::Scheme),
    (":scheme", "https", Kind::Scheme),
    (":status", "200", Kind::Status),
    (":status", "204", Kind::Status),
    (":status", "206", Kind::Status),
    (":status", "304", Kind::Status),
    (":status", "400", Kind::Status),
    (":status", "404", Kind::Status),
    (":status", "500", Kind::Status),
    ("accept-charset", "", Kind::Regular),
    ("accept-encoding", "gzip, deflate", Kind::Regular),
    ("accept-language", "", Kind::Regular),
    ("accept-ranges", "", Kind::Regular),
    ("accept", "", Kind::Regular),
    ("access-control-allow-origin", "", Kind::Regular),
    ("age", "", Kind::Regular),
    ("allow", "", Kind::Regular),
    ("authorization", "", Kind::Regular),
    ("cache-control", "", Kind::Regular),
    ("content-disposition", "", Kind::Regular),
    ("content-encoding", "", Kind::Regular),
    ("content-language", "", Kind::Regular),
    ("content-length", "", Kind::Malformed),
    ("content-location", "", Kind::Regular),
    ("content-range", "", Kind::Regular),
    ("content-type", "", Kind::Regular),
    ("cookie", "", Kind::Regular),
    ("date", "", Kind::Regular),
    ("etag", "", Kind::Regular),
    ("expect", "", Kind::Regular),
    ("expires", "", Kind::Regular),
    ("from", "", Kind::Regular),
    ("host", "", Kind::Malformed),
    ("if-match", "", Kind::Regular),
    ("if-modified-since", "", Kind::Regular),
    ("if-none-match", "", Kind::Regular),
    ("if-range", "", Kind::Regular),
    ("if-unmodified-since", "", Kind::Regular),
    ("last-modified", "", Kind::Regular),
    ("link", "", Kind::Regular),
    ("location", "", Kind::Regular),
    ("max-forwards", "", Kind::Regular),
    ("proxy-authenticate", "", Kind::Regular),
    ("proxy-authorization", "", Kind::Regular),
    ("range", "", Kind::Regular),
    ("referer", "", Kind::Regular),
    ("refresh", "", Kind::Regular),
    ("retry-after", "", Kind::Regular),
    ("server", "", Kind::Regular),
    ("set-cookie", "", Kind::Regular),
    ("strict-transport-security", "", Kind::Regular),
    ("transfer-encoding", "", Kind::Malformed),
    ("user-agent", "", Kind::Regular),
    ("vary", "", Kind::Regular),
    ("via", "", Kind::Regular),
    ("www-authenticate", "", Kind::Regular),
];

/// How many entries there are.
pub const LEN: usize = ENTRIES.len();

/// The entry at this index, from 1 on.
pub fn get(index: usize) -> Option<(&'static [u8], &'static [u8], Kind)> {
    let (name, value, kind) = ENTRIES.get(index.checked_sub(1)?)?;
    Some((name.as_bytes(), value.as_bytes(), *kind))
}

/// The first index with this name.
pub fn find(name: &[u8]) -> Option<u8> {
    Some(match name.len() {
        3 => match name {
            b"age" => 21,
            b"via" => 60,
            _ => return None,
        },
        4 => match name {
            b"date" => 33,
            b"etag" => 34,
            b"from" => 37,
            b"host" => 38,
            b"link" => 45,
            b"vary" => 59,
            _ => return None,
        },
        5 => match name {
            b":path" => 4,
            b"allow" => 22,
            b"range" => 50,
            _ => return None,
        },
        6 => match name {
            b"accept" => 19,
            b"cookie" => 32,
            b"expect" => 35,
            b"server" => 54,
            _ => return None,
        },
        7 => match name {
            b":method" => 2,
            b":scheme" => 6,
            b":status" => 8,
            b"expires" => 36,
            b"referer" => 51,
            b"refresh" => 52,
            _ => return None,
        },
        8 => match name {
            b"if-match" => 39,
            b"if-range" => 42,
            b"location" => 46,
            _ => return None,
        },
        10 => match name {
            b":authority" => 1,
            b"set-cookie" => 55,
            b"user-agent" => 58,
            _ => return None,
        },
        11 => match name {
            b"retry-after" => 53,
            _ => return None,
        },
        12 => match name {
            b"content-type" => 31,
            b"max-forwards" => 47,
            _ => return None,
        },
        13 => match name {
            b"accept-ranges" => 18,
            b"authorization" => 23,
            b"cache-control" => 24,
            b"content-range" => 30,
            b"if-none-match" => 41,
            b"last-modified" => 44,
            _ => return None,
        },
        14 => match name {
            b"accept-charset" => 15,
            b"content-length" => 28,
            _ => return None,
        },
        15 => match name {
            b"accept-encoding" => 16,
            b"accept-language" => 17,
            _ => return None,
        },
        16 => match name {
            b"content-encoding" => 26,
            b"content-language" => 27,
            b"content-location" => 29,
            b"www-authenticate" => 61,
            _ => return None,
        },
        17 => match name {
            b"if-modified-since" => 40,
            b"transfer-encoding" => 57,
            _ => return None,
        },
        18 => match name {
            b"proxy-authenticate" => 48,
            _ => return None,
        },
        19 => match name {
            b"content-disposition" => 25,
            b"if-unmodified-since" => 43,
            b"proxy-authorization" => 49,
            _ => return None,
        },
        25 => match name {
            b"strict-transport-security" => 56,
            _ => return None,
        },
        27 => match name {
            b"access-control-allow-origin" => 20,
            _ => return None,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_found_at_its_first_index() {
        for (name, ..) in ENTRIES {
            let first = ENTRIES.iter().position(|(known, ..)| *known == name).unwrap() + 1;
            assert_eq!(find(name.as_bytes()).map(usize::from), Some(first), "{name}");
        }
        assert_eq!(find(b"x-other"), None);
        assert_eq!((get(0), get(LEN + 1)), (None, None));
    }

    #[test]
    fn each_entry_is_of_the_kind_that_its_field_has() {
        for (name, value, kind) in ENTRIES {
            assert_eq!(Kind::of(name.as_bytes(), value.as_bytes()), kind, "{name}");
        }
    }
}
