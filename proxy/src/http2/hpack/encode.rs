//! From fields to a field block (RFC 7541 §3, §6).
//!
//! A field is put into the table when it comes a second time within a short while: what repeats (user agent, identity
//! headers, the date of this second) costs one octet from then on, what does not (IDs, tokens) never pushes it out.
//! Strings are not packed; see [`super::huffman`].

use super::{static_table, table::Table};

/// The most octets of table that we use, however many the peer allows.
const MOST_TABLE: usize = 4096;

/// Fields that are remembered, and fields that were seen once.
const SLOTS: usize = 128;

/// The sending end of one direction of a connection.
pub struct Encoder {
    /// Entries remember their hash.
    table: Table<u32>,
    /// By hash, the number (from 1 on) of the entry that may hold that field. A newer one takes the place of an older.
    numbers: [u32; SLOTS],
    /// By hash, the field that was seen last and is not in the table.
    seen: [u32; SLOTS],
    /// A name on its way to lower case.
    lower: Vec<u8>,
    /// The smallest and the last size of the table since the last block.
    resized: Option<(usize, usize)>,
}

impl Encoder {
    /// An encoder for a peer that keeps 4,096 octets, which is what it does until it says otherwise.
    pub fn new() -> Self {
        Self {
            table: Table::new(MOST_TABLE),
            numbers: [0; SLOTS],
            seen: [0; SLOTS],
            lower: Vec::new(),
            resized: None,
        }
    }

    /// The peer keeps this many octets from now on.
    pub fn resize(&mut self, peer: usize) {
        let max = peer.min(MOST_TABLE);
        if max != self.table.max() || self.resized.is_some() {
            let smallest = self.resized.map_or(max, |(smallest, _)| smallest.min(max));
            self.resized = Some((smallest, max));
            self.table.resize(max);
        }
    }

    /// Begins a block.
    pub fn begin(&mut self, into: &mut Vec<u8>) {
        if let Some((smallest, last)) = self.resized.take() {
            if smallest < last {
                integer(0x20, 5, smallest, into);
            }
            integer(0x20, 5, last, into);
        }
    }

    /// Appends a field of the static table.
    pub fn indexed(&self, index: u8, into: &mut Vec<u8>) {
        into.push(0x80 | index);
    }

    /// Appends a field; its name goes in lower case. A sensitive one is put in no table, here and on all hops after.
    pub fn field(&mut self, name: &[u8], value: &[u8], sensitive: bool, into: &mut Vec<u8>) {
        if may_have_upper(name) && name.iter().any(u8::is_ascii_uppercase) {
            let mut lower = std::mem::take(&mut self.lower);
            lower.clear();
            lower.extend(name.iter().map(u8::to_ascii_lowercase));
            self.field(&lower, value, sensitive, into);
            self.lower = lower;
            return;
        }
        let hash = hash(name, value);
        let slot = hash as usize % SLOTS;
        if !sensitive && let Some(age) = self.find(slot, hash, name, value) {
            return integer(0x80, 7, static_table::LEN + 1 + age, into);
        }
        let index = static_table::find(name).map_or(0, usize::from);
        if sensitive {
            integer(0x10, 4, index, into);
        } else if self.is_repeated(slot, hash) {
            integer(0x40, 6, index, into);
            self.table.add(name, value, hash);
            if let (Some(number), Ok(added)) = (self.numbers.get_mut(slot), u32::try_from(self.table.added()))
            {
                *number = added;
            }
        } else {
            integer(0x00, 4, index, into);
        }
        if index == 0 {
            string(name, into);
        }
        string(value, into);
    }

    /// The age of the entry that holds this field.
    fn find(&self, slot: usize, hash: u32, name: &[u8], value: &[u8]) -> Option<usize> {
        let number = u64::from(*self.numbers.get(slot)?);
        let age = usize::try_from(self.table.added().checked_sub(number)?).ok()?;
        let (known, is, tag) = self.table.get(age)?;
        (tag == hash && known == name && is == value).then_some(age)
    }

    fn is_repeated(&mut self, slot: usize, hash: u32) -> bool {
        self.seen.get_mut(slot).is_some_and(|seen| std::mem::replace(seen, hash) == hash)
    }
}

/// A hash over words: quick, and good enough where a collision only costs a few octets.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    let mut hash = (name.len() as u64) << 32 | value.len() as u64;
    let mut add = |word: u64| hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    words(name, &mut add);
    words(value, &mut add);
    (hash >> 32) as u32
}

/// Whether a letter of a token is in upper case; for other texts it may say so wrongly.
fn may_have_upper(token: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut found = 0;
    // The high bit of each octet: whether it is at least `A`, and whether it is more than `Z`.
    words(token, |word| found |= word.wrapping_add(0x3f * EACH) & !word.wrapping_add(0x25 * EACH));
    found & (0x80 * EACH) != 0
}

/// Each octet of a text, in words of eight; some may be in two of them.
fn words(text: &[u8], mut each: impl FnMut(u64)) {
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        each(u64::from_le_bytes(*word));
    }
    match (rest, text.last_chunk::<8>(), rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        ([], ..) => {}
        (_, Some(last), ..) => each(u64::from_le_bytes(*last)),
        (.., Some(first), Some(last)) => {
            each(u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last)));
        }
        _ => each(rest.iter().fold(0, |word, octet| word << 8 | u64::from(*octet))),
    }
}

/// RFC 7541 §5.1.
fn integer(flags: u8, prefix: u32, value: usize, into: &mut Vec<u8>) {
    let mask = (1_usize << prefix) - 1;
    if value < mask {
        return into.push(flags | value as u8);
    }
    into.push(flags | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        into.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    into.push(rest as u8);
}

/// RFC 7541 §5.2.
fn string(text: &[u8], into: &mut Vec<u8>) {
    integer(0, 7, text.len(), into);
    into.extend_from_slice(text);
}
