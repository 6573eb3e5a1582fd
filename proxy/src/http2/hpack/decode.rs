//! From a field block to fields (RFC 7541 §3, §6).

use super::{super::field::Kind, BadBlock, huffman, static_table, table::Table};
use crate::message::head::MOST_KEPT;

/// Who takes the fields of a block, in order.
pub trait Sink {
    /// A field, and what it is. `sensitive` says that it must never be indexed on the next hop either (RFC 7541 §7.1.3).
    fn field(&mut self, name: &[u8], value: &[u8], kind: Kind, sensitive: bool);
}

/// The receiving end of one direction of a connection.
pub struct Decoder {
    table: Table<Kind>,
    /// The largest table that we allow, in octets.
    limit: usize,
    /// A name and a value that were packed, or a name from the table.
    scratch: Vec<u8>,
}

impl Decoder {
    /// A decoder whose table holds at most `limit` octets.
    pub fn new(limit: usize) -> Self {
        Self { table: Table::new(limit), limit, scratch: Vec::new() }
    }

    /// Decodes a whole field block.
    ///
    /// # Errors
    /// The block breaks the format; what the tables hold is unknown from here on.
    pub fn decode(&mut self, block: &[u8], sink: &mut impl Sink) -> Result<(), BadBlock> {
        let decoded = self.fields(block, sink);
        if self.scratch.capacity() > MOST_KEPT {
            self.scratch = Vec::new();
        }
        decoded
    }

    fn fields(&mut self, block: &[u8], sink: &mut impl Sink) -> Result<(), BadBlock> {
        let mut rest = block;
        let mut may_resize = true;
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                let (name, value, kind) = lookup(&self.table, index)?;
                sink.field(name, value, kind, false);
            } else if first & 0x40 != 0 {
                self.literal(&mut rest, 6, true, sink)?;
            } else if first & 0x20 == 0 {
                self.literal(&mut rest, 4, false, sink)?;
            } else {
                let size = integer(&mut rest, 5)?;
                if !may_resize || size > self.limit {
                    return Err(BadBlock(
                        "the size of the dynamic table changes where or to what it must not",
                    ));
                }
                self.table.resize(size);
                continue;
            }
            may_resize = false;
        }
        Ok(())
    }

    /// A field that is told in full, or but for its name (RFC 7541 §6.2).
    fn literal(
        &mut self,
        rest: &mut &[u8],
        prefix: u32,
        add: bool,
        sink: &mut impl Sink,
    ) -> Result<(), BadBlock> {
        let sensitive = !add && rest.first().is_some_and(|first| first & 0x10 != 0);
        let index = integer(rest, prefix)?;
        self.scratch.clear();
        let name = match index {
            0 => string(rest, &mut self.scratch)?,
            1..=static_table::LEN => Text::Plain(static_table::get(index).ok_or(NO_ENTRY)?.0),
            _ => {
                // The entry may have to make room for the new one.
                self.scratch.extend_from_slice(lookup(&self.table, index)?.0);
                Text::Unpacked(self.scratch.len())
            }
        };
        let start = self.scratch.len();
        let value = string(rest, &mut self.scratch)?;
        let name = match name {
            Text::Plain(name) => name,
            Text::Unpacked(end) => self.scratch.get(..end).unwrap_or_default(),
        };
        let value = match value {
            Text::Plain(value) => value,
            Text::Unpacked(end) => self.scratch.get(start..end).unwrap_or_default(),
        };
        let kind = Kind::of(name, value);
        sink.field(name, value, kind, sensitive);
        if add {
            self.table.add(name, value, kind);
        }
        Ok(())
    }
}

const NO_ENTRY: BadBlock = BadBlock("an index that no table has");

/// A string that is in the block or in a table as it is, or that was unpacked and ends here in the scratch.
enum Text<'t> {
    Plain(&'t [u8]),
    Unpacked(usize),
}

fn lookup(table: &Table<Kind>, index: usize) -> Result<(&[u8], &[u8], Kind), BadBlock> {
    let found = match index.checked_sub(static_table::LEN + 1) {
        None => static_table::get(index),
        Some(age) => table.get(age),
    };
    found.ok_or(NO_ENTRY)
}

/// An integer whose first octet has `prefix` bits for it (RFC 7541 §5.1).
fn integer(rest: &mut &[u8], prefix: u32) -> Result<usize, BadBlock> {
    const CUT: BadBlock = BadBlock("the block ends in the middle of a field");
    let (first, mut tail) = rest.split_first().ok_or(CUT)?;
    let mask = (1_u32 << prefix) - 1;
    let mut value = u32::from(*first) & mask;
    if value == mask {
        // Four more octets are 28 bits: more than any index or length that we allow.
        for shift in [0, 7, 14, 21] {
            let (octet, after) = tail.split_first().ok_or(CUT)?;
            tail = after;
            value += u32::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                *rest = tail;
                return Ok(value as usize);
            }
        }
        return Err(BadBlock("an integer that is larger than anything allowed"));
    }
    *rest = tail;
    Ok(value as usize)
}

/// A string, unpacked to the end of `scratch` if it was packed (RFC 7541 §5.2).
fn string<'b>(rest: &mut &'b [u8], scratch: &mut Vec<u8>) -> Result<Text<'b>, BadBlock> {
    let is_packed = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(rest, 7)?;
    let (text, tail) = rest.split_at_checked(length).ok_or(BadBlock("a string is longer than the block"))?;
    *rest = tail;
    if !is_packed {
        return Ok(Text::Plain(text));
    }
    huffman::decode(text, scratch)?;
    Ok(Text::Unpacked(scratch.len()))
}
