//! The host of a request, as a target or a `Host` field names it.

/// A host with or without a port, and no user (RFC 3986 §3.2). A name may not hold `%` and `,`, which nobody needs there
/// and some programs would take for something else.
#[must_use]
pub fn is_authority(text: &[u8]) -> bool {
    let port = match text.strip_prefix(b"[") {
        Some(literal) => {
            let Some(end) = literal.iter().position(|byte| *byte == b']') else { return false };
            let (address, rest) = literal.split_at(end);
            if address.is_empty() || !address.iter().all(|byte| is_name(*byte) || matches!(byte, b':' | b'%'))
            {
                return false;
            }
            rest.get(1..).unwrap_or_default()
        }
        None => {
            let end = text.iter().position(|byte| !is_name(*byte)).unwrap_or(text.len());
            if end == 0 {
                return false;
            }
            text.get(end..).unwrap_or_default()
        }
    };
    match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Whether a name may hold the byte.
fn is_name(byte: u8) -> bool {
    NAME.get(usize::from(byte)).copied().unwrap_or(false)
}

#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it, and would complain")]
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = is_unreserved_or_delimiter(byte);
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// Unreserved, and the sub-delims but `,`.
const fn is_unreserved_or_delimiter(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~')
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_one_host_with_an_optional_port() {
        for (text, is) in [
            ("orders.internal", true),
            ("orders_1.internal:", true),
            ("10.0.0.7:8080", true),
            ("[::1]:8080", true),
            ("[fe80::1%25eth0]", true),
            ("", false),
            (":80", false),
            ("[]", false),
            ("[::1", false),
            ("[::1]x", false),
            ("user@host", false),
            ("a/b", false),
            ("a b", false),
            ("a,b", false),
            ("a%2eb", false),
            ("a:80:80", false),
            ("a:80x", false),
        ] {
            assert_eq!(is_authority(text.as_bytes()), is, "{text}");
        }
    }
}
