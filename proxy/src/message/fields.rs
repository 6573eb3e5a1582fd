//! The fields of a head or of trailers, in order, with their case, in one piece of memory that is used again for the next
//! message (RFC 9110 §5).
//!
//! Names are tokens and values hold no CR, LF or NUL: who fills it sees to that. Nothing here knows what a field means.

use std::ops::Range;

/// A list of fields.
#[derive(Clone, Default)]
pub struct Fields {
    text: Vec<u8>,
    entries: Vec<Entry>,
}

/// Where in the text a field is.
#[derive(Clone)]
struct Entry {
    name: Range<u32>,
    value: Range<u32>,
}

impl Fields {
    /// No fields.
    #[must_use]
    pub const fn new() -> Self {
        Self { text: Vec::new(), entries: Vec::new() }
    }

    /// Removes all fields and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
    }

    /// How many fields there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All fields as (name, value), in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|entry| (self.part(&entry.name), self.part(&entry.value)))
    }

    /// The value of the first field of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The values of all fields of that name, in order.
    pub fn get_all<'f>(&'f self, name: &str) -> impl Iterator<Item = &'f [u8]> {
        self.iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// Whether there is a field of that name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether any field of that name lists `token`, in any case, between commas (RFC 9110 §5.6.1).
    #[must_use]
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.get_all(name).any(|value| {
            value
                .split(|byte| *byte == b',')
                .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
        })
    }

    /// Adds a field at the end.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let name = self.append(name);
        let value = self.append(value);
        self.entries.push(Entry { name, value });
    }

    /// Gives the first field of that name this value, where it is and in the case it has, and removes the others of that
    /// name; adds it at the end if there is none.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let value = self.append(value);
        let mut first = true;
        let text = &self.text;
        self.entries.retain_mut(|entry| {
            if !part(text, &entry.name).eq_ignore_ascii_case(name.as_bytes()) {
                return true;
            }
            if first {
                entry.value = value.clone();
            }
            std::mem::replace(&mut first, false)
        });
        if first {
            let name = self.append(name.as_bytes());
            self.entries.push(Entry { name, value });
        }
    }

    /// Removes all fields of that name. Says whether there were any.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.len();
        self.retain(|known, _| !known.eq_ignore_ascii_case(name.as_bytes()));
        self.len() < before
    }

    /// Keeps the fields of which `keep(name, value)` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let text = &self.text;
        self.entries.retain(|entry| keep(part(text, &entry.name), part(text, &entry.value)));
    }

    fn append(&mut self, bytes: &[u8]) -> Range<u32> {
        let start = self.text.len();
        self.text.extend_from_slice(bytes);
        // Heads are bounded far below 4 GiB by the limits of whoever reads them.
        position(start)..position(self.text.len())
    }

    fn part(&self, range: &Range<u32>) -> &[u8] {
        part(&self.text, range)
    }
}

fn part<'t>(text: &'t [u8], range: &Range<u32>) -> &'t [u8] {
    text.get(range.start as usize..range.end as usize).unwrap_or_default()
}

fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lossy = |bytes| String::from_utf8_lossy(bytes).into_owned();
        f.debug_map().entries(self.iter().map(|(name, value)| (lossy(name), lossy(value)))).finish()
    }
}

impl<'f> FromIterator<(&'f str, &'f str)> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'f str, &'f str)>>(pairs: I) -> Self {
        let mut fields = Self::new();
        for (name, value) in pairs {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        [("Host", "a"), ("X-One", "1"), ("x-one", "2"), ("Connection", "close, X-Two")].into_iter().collect()
    }

    #[test]
    fn order_and_case_stay() {
        let names: Vec<_> =
            fields().iter().map(|(name, _)| String::from_utf8(name.to_vec()).unwrap()).collect();
        assert_eq!(names, ["Host", "X-One", "x-one", "Connection"]);
    }

    #[test]
    fn names_are_found_in_any_case() {
        let fields = fields();
        assert_eq!(fields.get("HOST"), Some(&b"a"[..]));
        assert_eq!(fields.get_all("X-ONE").collect::<Vec<_>>(), [b"1", b"2"]);
        assert!(fields.lists("connection", "x-two") && !fields.lists("connection", "x-t"));
    }

    #[test]
    fn setting_replaces_in_place_and_leaves_one() {
        let mut fields = fields();
        fields.set("x-one", b"3");
        fields.set("x-new", b"4");
        let expected: Fields =
            [("Host", "a"), ("X-One", "3"), ("Connection", "close, X-Two"), ("x-new", "4")]
                .into_iter()
                .collect();
        assert_eq!(fields, expected);
        assert!(fields.remove("HOST") && !fields.remove("host"));
    }
}
