//! The Huffman code of HPACK (RFC 7541 §5.2, Appendix B), decoding only: what we send is not packed, since a byte less
//! on the wire of a sidecar saves less than packing and unpacking it costs.
//!
//! The code is canonical, so the lengths of its codes are all there is to know.

use super::BadBlock;

/// The length of each symbol's code in bits; the last symbol is the end of a string.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, //
    28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, //
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, //
    6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, //
    14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, //
    23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22,
    23, //
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22,
    25, //
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, //
    24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27,
    28, //
    27, 27, 27, 27, 27, 26, 30,
];

const LONGEST: usize = 30;

/// Bits that one step of the fast table looks at.
const STEP: u32 = 11;

/// For each value of the next [`STEP`] bits, the one or two symbols that they begin with; see [`Step`].
static FAST: [Step; 1 << STEP] = fast_table();

/// The codes in canonical order.
static CANON: Canon = canon();

/// What can be read off [`STEP`] bits. `bits` is 0 when the next code is longer than that.
#[derive(Clone, Copy)]
struct Step {
    symbols: [u8; 2],
    count: u8,
    bits: u8,
}

struct Canon {
    /// The symbols by (length, symbol).
    symbols: [u16; 257],
    /// For each length: its first code, and where its symbols begin.
    first: [(u32, u16); LONGEST + 1],
    count: [u16; LONGEST + 1],
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn canon() -> Canon {
    let mut canon = Canon { symbols: [0; 257], first: [(0, 0); LONGEST + 1], count: [0; LONGEST + 1] };
    let (mut code, mut at, mut length) = (0_u32, 0_u16, 1);
    while length <= LONGEST {
        canon.first[length] = (code, at);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                canon.symbols[at as usize] = symbol as u16;
                canon.count[length] += 1;
                at += 1;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    canon
}

/// The first symbol in the `have` bits at the low end of `bits`, and its length; (0, 0) if they hold none in full.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn symbol_in(canon: &Canon, bits: u32, have: u32) -> (u8, u32) {
    let mut length = 5;
    while length <= have {
        let (first, at) = canon.first[length as usize];
        let code = bits >> (have - length);
        if code >= first && code - first < canon.count[length as usize] as u32 {
            return (canon.symbols[at as usize + (code - first) as usize] as u8, length);
        }
        length += 1;
    }
    (0, 0)
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn fast_table() -> [Step; 1 << STEP] {
    let canon = canon();
    let mut table = [Step { symbols: [0; 2], count: 0, bits: 0 }; 1 << STEP];
    let mut bits = 0;
    while bits < table.len() {
        let (one, length) = symbol_in(&canon, bits as u32, STEP);
        if length > 0 {
            let rest = STEP - length;
            let (two, more) = symbol_in(&canon, bits as u32 & ((1 << rest) - 1), rest);
            table[bits] = Step {
                symbols: [one, two],
                count: if more > 0 { 2 } else { 1 },
                bits: (length + more) as u8,
            };
        }
        bits += 1;
    }
    table
}

/// Appends what `packed` stands for.
pub fn decode(packed: &[u8], into: &mut Vec<u8>) -> Result<(), BadBlock> {
    // The next bits, at the high end, and how many of them there are.
    let (mut bits, mut have) = (0_u64, 0_u32);
    let mut rest = packed.iter();
    loop {
        while have <= 56 {
            let Some(byte) = rest.next() else { break };
            bits |= u64::from(*byte) << (56 - have);
            have += 8;
        }
        let step = FAST.get((bits >> (64 - STEP)) as usize).copied();
        match step {
            Some(step) if step.bits > 0 && u32::from(step.bits) <= have => {
                into.extend_from_slice(step.symbols.get(..usize::from(step.count)).unwrap_or_default());
                bits <<= step.bits;
                have -= u32::from(step.bits);
            }
            _ => {
                let Some((symbol, length)) = slow_step(bits, have) else { break };
                into.push(
                    u8::try_from(symbol)
                        .map_err(|_| BadBlock("a packed string holds the end-of-string code"))?,
                );
                bits <<= length;
                have -= length;
            }
        }
    }
    // What is left must be the beginning of the end-of-string code, shorter than an octet (RFC 7541 §5.2).
    let padding = if have == 0 { 0 } else { u64::MAX << (64 - have) };
    if have > 7 || bits != padding {
        return Err(BadBlock("a packed string ends in the middle of a code"));
    }
    Ok(())
}

/// The next symbol, however long, if the bits hold it in full.
fn slow_step(bits: u64, have: u32) -> Option<(u16, u32)> {
    (5..=(LONGEST as u32).min(have)).find_map(|length| {
        let code = (bits >> (64 - length)) as u32;
        let (first, at) = *CANON.first.get(length as usize)?;
        let nth = u16::try_from(code.checked_sub(first)?).ok()?;
        let is_code = nth < *CANON.count.get(length as usize)?;
        is_code.then(|| Some((*CANON.symbols.get(usize::from(at + nth))?, length)))?
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The code of a symbol, and its length.
    fn code(symbol: u16) -> (u32, u32) {
        let length = LENGTHS[usize::from(symbol)];
        let (first, at) = CANON.first[usize::from(length)];
        let nth = CANON.symbols[usize::from(at)..].iter().position(|known| *known == symbol).unwrap();
        (first + u32::try_from(nth).unwrap(), u32::from(length))
    }

    fn pack(symbols: impl IntoIterator<Item = u16>) -> Vec<u8> {
        let (mut out, mut bits, mut have) = (Vec::new(), 0_u64, 0);
        for symbol in symbols {
            let (code, length) = code(symbol);
            bits = bits << length | u64::from(code);
            have += length;
            while have >= 8 {
                have -= 8;
                out.push((bits >> have) as u8);
            }
        }
        if have > 0 {
            out.push((bits << (8 - have)) as u8 | (0xff >> have));
        }
        out
    }

    fn unpack(packed: &[u8]) -> Result<Vec<u8>, BadBlock> {
        let mut out = Vec::new();
        decode(packed, &mut out).map(|()| out)
    }

    #[test]
    fn codes_are_those_of_the_appendix() {
        for (symbol, expected) in [
            (b'0'.into(), (0x0, 5)),
            (b'a'.into(), (0x3, 5)),
            (b' '.into(), (0x14, 6)),
            (b'&'.into(), (0xf8, 8)),
            (b'Z'.into(), (0xfd, 8)),
            (b'!'.into(), (0x3f8, 10)),
            (b'~'.into(), (0x1ffd, 13)),
            (0, (0x1ff8, 13)),
            (10, (0x3fff_fffc, 30)),
            (255, (0x3ff_ffee, 26)),
            (256, (0x3fff_ffff, 30)),
        ] {
            assert_eq!(code(symbol), expected, "symbol {symbol}");
        }
    }

    #[test]
    fn strings_of_the_appendix_unpack() {
        for (packed, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
        ] {
            assert_eq!(unpack(&hex::decode(packed).unwrap()).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn padding_is_the_beginning_of_the_end_and_nothing_else() {
        assert_eq!(unpack(&[]), Ok(Vec::new()));
        for bad in [&[0xff][..], &[0x00], &[0x18], &[0x1f, 0xff], &[0xff; 4], &[0xff, 0xff, 0xff, 0xfc]] {
            unpack(bad).unwrap_err();
        }
        assert_eq!(unpack(&[0x1f]), Ok(b"a".to_vec()));
        unpack(&pack([b'a'.into(), 256, b'b'.into()])).unwrap_err();
    }

    proptest! {
        #[test]
        fn every_string_survives(text: Vec<u8>) {
            prop_assert_eq!(unpack(&pack(text.iter().map(|byte| u16::from(*byte)))), Ok(text));
        }

        #[test]
        fn nothing_panics(packed: Vec<u8>) {
            let _ = unpack(&packed);
        }
    }
}
