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
    /// The smallest and the last size of the table since the last block.
    resized: Option<(usize, usize)>,
}

impl Encoder {
    /// An encoder for a peer that keeps 4,096 octets, which is what it does until it says otherwise.
    pub fn new() -> Self {
        Self { table: Table::new(MOST_TABLE), numbers: [0; SLOTS], seen: [0; SLOTS], resized: None }
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

    /// Appends a field. The name is in lower case. A sensitive one is put in no table, here and on all hops after.
    pub fn field(&mut self, name: &[u8], value: &[u8], sensitive: bool, into: &mut Vec<u8>) {
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

/// FNV-like over words: quick, and good enough where a collision only costs a few octets.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    let mut hash = (name.len() as u64) << 32 | value.len() as u64;
    for text in [name, value] {
        let (words, rest) = text.as_chunks::<8>();
        for word in words {
            hash = (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
        }
        let last = rest.iter().fold(0, |last, byte| last << 8 | u64::from(*byte));
        hash = (hash.rotate_left(5) ^ last).wrapping_mul(FACTOR);
    }
    (hash >> 32) as u32
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
