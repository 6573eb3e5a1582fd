//! The few DER values that are written by hand: public keys that arrive as JWK numbers. Reading DER is
//! left to x509-parser and webpki.

/// `SEQUENCE`.
pub(crate) const SEQUENCE: u8 = 0x30;
/// `BIT STRING`.
const BIT_STRING: u8 = 0x03;
/// `INTEGER`.
const INTEGER: u8 = 0x02;

/// One value: tag, definite length, content.
pub(crate) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = length.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    let mut out = Vec::with_capacity(content.len() + 2 + significant.len());
    out.push(tag);
    match significant.as_slice() {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}

/// A sequence of values that are encoded already.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    value(SEQUENCE, &parts.concat())
}

/// A bit string without unused bits.
pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    value(BIT_STRING, &[&[0], bytes].concat())
}

/// A non-negative integer from big-endian bytes, in its shortest form.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let digits = bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    match digits.first() {
        Some(first) if *first < 0x80 => value(INTEGER, &digits),
        _ => value(INTEGER, &[&[0], digits.as_slice()].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_their_shortest_form() {
        assert_eq!(value(4, &[]), [4, 0]);
        assert_eq!(value(4, &[0; 127])[..2], [4, 127]);
        assert_eq!(value(4, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(value(4, &[0; 256])[..4], [4, 0x82, 1, 0]);
    }

    #[test]
    fn integers_stay_positive_and_short() {
        assert_eq!(unsigned(&[]), [2, 1, 0]);
        assert_eq!(unsigned(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
    }
}
