//! The dynamic table (RFC 7541 §2.3.2, §4): the last fields that were added, newest first, bounded in octets.
//!
//! The texts of all entries are one piece of memory, so that adding one allocates nothing once the table is warm.

use std::collections::VecDeque;

/// What an entry costs beyond its octets (RFC 7541 §4.1).
const OVERHEAD: usize = 32;

/// A dynamic table whose entries remember a `T` each.
pub struct Table<T> {
    text: Vec<u8>,
    /// Oldest first.
    entries: VecDeque<Entry<T>>,
    size: usize,
    max: usize,
    /// Entries that were ever added.
    added: u64,
}

struct Entry<T> {
    start: usize,
    name: usize,
    value: usize,
    tag: T,
}

impl<T: Copy> Table<T> {
    /// An empty table of at most `max` octets as RFC 7541 counts them.
    pub fn new(max: usize) -> Self {
        Self { text: Vec::new(), entries: VecDeque::new(), size: 0, max, added: 0 }
    }

    /// The most octets.
    pub fn max(&self) -> usize {
        self.max
    }

    /// How many entries were ever added: the number of the next one.
    pub fn added(&self) -> u64 {
        self.added
    }

    /// The entry of this age, 0 for the newest: name, value and tag.
    pub fn get(&self, age: usize) -> Option<(&[u8], &[u8], T)> {
        let entry = self.entries.get(self.entries.len().checked_sub(age + 1)?)?;
        let value = entry.start + entry.name;
        let name = self.text.get(entry.start..value)?;
        Some((name, self.text.get(value..value + entry.value)?, entry.tag))
    }

    /// Adds a field. One that is larger than the table empties it (RFC 7541 §4.4).
    pub fn add(&mut self, name: &[u8], value: &[u8], tag: T) {
        if self.make_room(name.len() + value.len() + OVERHEAD) {
            let start = self.text.len();
            self.text.extend_from_slice(name);
            self.text.extend_from_slice(value);
            self.push(Entry { start, name: name.len(), value: value.len(), tag });
        }
    }

    /// Changes the most octets, and drops what has no room any more.
    pub fn resize(&mut self, max: usize) {
        self.max = max;
        self.make_room(0);
    }

    fn push(&mut self, entry: Entry<T>) {
        self.size += entry.name + entry.value + OVERHEAD;
        self.added += 1;
        self.entries.push_back(entry);
    }

    /// Drops the oldest until `needed` octets fit. Says whether they do.
    fn make_room(&mut self, needed: usize) -> bool {
        while self.size + needed > self.max {
            let Some(oldest) = self.entries.pop_front() else { return false };
            self.size -= oldest.name + oldest.value + OVERHEAD;
        }
        // Texts of dropped entries are cleared away when they are as much as the table may hold.
        let unused = self.entries.front().map_or(self.text.len(), |oldest| oldest.start);
        if unused > self.max.max(1024) {
            self.text.drain(..unused);
            self.entries.iter_mut().for_each(|entry| entry.start -= unused);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let mut table = Table::new(2 * (OVERHEAD + 2));
        for (number, name) in [b"a", b"b", b"c"].into_iter().enumerate() {
            table.add(name, b"1", number);
        }
        assert_eq!(table.get(0), Some((&b"c"[..], &b"1"[..], 2)));
        assert_eq!(table.get(1), Some((&b"b"[..], &b"1"[..], 1)));
        assert_eq!(table.get(2), None);
        table.resize(OVERHEAD + 2);
        assert_eq!(table.get(0).unwrap().2, 2);
        assert_eq!(table.get(1), None);
    }

    #[test]
    fn what_is_larger_than_the_table_empties_it() {
        let mut table = Table::new(OVERHEAD + 4);
        table.add(b"a", b"1", ());
        table.add(b"name", b"value", ());
        assert_eq!(table.get(0), None);
        assert_eq!(table.added(), 1);
        table.add(b"ab", b"12", ());
        assert_eq!(table.get(0).unwrap().0, b"ab");
    }

    #[test]
    fn memory_stays_bounded() {
        let mut table = Table::new(4096);
        for number in 0..100_000_u32 {
            table.add(b"x-number", number.to_string().as_bytes(), number);
        }
        assert_eq!(table.get(0).unwrap().1, b"99999");
        assert!(table.text.capacity() <= 16 << 10 && table.entries.len() <= 128);
    }
}
