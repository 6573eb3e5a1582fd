//! The fields of a head or of trailers, in order, with their case, in one piece of memory that is used again for the next
//! message (RFC 9110 §5).
//!
//! Names are tokens and values hold no CR, LF or NUL: who fills it sees to that. Nothing here knows what a field means.
//!
//! The text is kept as HTTP/1 writes it, `Name: value\r\n`, so that such a head is copied in and out in few pieces.

/// What stands between name and value.
const SEPARATOR: &[u8] = b": ";
/// What ends a field.
const LINE_END: &[u8] = b"\r\n";

/// A list of fields.
#[derive(Default)]
pub struct Fields {
    /// Lines, among them those of fields that were removed.
    text: Vec<u8>,
    entries: Vec<Entry>,
    /// The tags of all names that were ever added since the last [`Self::clear`], a bit for each: most names that are
    /// asked for are not there, and this says so at once.
    tags: u64,
}

/// A set of names, told apart so roughly that others may seem to be in it, but never that one of them seems not to be.
#[derive(Clone, Copy, Debug)]
pub struct Names(u64);

impl Names {
    /// Every name.
    pub const ALL: Self = Self(u64::MAX);
    /// No name.
    pub const NONE: Self = Self(0);

    /// These and one more, in any case.
    #[must_use]
    pub const fn with(self, name: &[u8]) -> Self {
        Self(self.0 | 1 << tag_of(name))
    }
}

/// Where in the text a field's line is.
#[derive(Clone)]
struct Entry {
    start: u32,
    name: u32,
    value: u32,
    tag: u8,
    sensitive: bool,
}

impl Entry {
    const fn name_end(&self) -> usize {
        self.start as usize + self.name as usize
    }

    const fn value_start(&self) -> usize {
        self.name_end() + SEPARATOR.len()
    }

    const fn value_end(&self) -> usize {
        self.value_start() + self.value as usize
    }

    const fn end(&self) -> usize {
        self.value_end() + LINE_END.len()
    }

    fn name<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(self.start as usize..self.name_end()).unwrap_or_default()
    }

    fn value<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(self.value_start()..self.value_end()).unwrap_or_default()
    }

    fn is(&self, tag: u8, name: &[u8], text: &[u8]) -> bool {
        self.tag == tag && self.name(text).eq_ignore_ascii_case(name)
    }
}

impl Fields {
    /// No fields.
    #[must_use]
    pub const fn new() -> Self {
        Self { text: Vec::new(), entries: Vec::new(), tags: 0 }
    }

    /// Removes all fields and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
        self.tags = 0;
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.text.capacity() + self.entries.capacity() * size_of::<Entry>()
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
        self.entries.iter().map(|entry| (entry.name(&self.text), entry.value(&self.text)))
    }

    /// All fields as (name, value, whether it is sensitive: see [`Self::push_sensitive`]), in order.
    pub fn iter_sensitive(&self) -> impl Iterator<Item = (&[u8], &[u8], bool)> {
        self.entries.iter().map(|entry| (entry.name(&self.text), entry.value(&self.text), entry.sensitive))
    }

    /// All fields in order as the lines that HTTP/1 writes, in as few pieces as there can be.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.entries.as_slice();
        std::iter::from_fn(move || {
            let (first, mut after) = rest.split_first()?;
            let mut end = first.end();
            while let Some((next, tail)) = after.split_first()
                && next.start as usize == end
            {
                (end, after) = (next.end(), tail);
            }
            rest = after;
            self.text.get(first.start as usize..end)
        })
    }

    /// The value of the first field of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The values of all fields of that name, in order.
    pub fn get_all<'f>(&'f self, name: &str) -> impl Iterator<Item = &'f [u8]> {
        let tag = tag_of(name.as_bytes());
        let entries = if self.may_hold(tag) { self.entries.as_slice() } else { &[] };
        entries
            .iter()
            .filter(move |entry| entry.is(tag, name.as_bytes(), &self.text))
            .map(|entry| entry.value(&self.text))
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
        let start = self.text.len();
        for part in [name, SEPARATOR, value, LINE_END] {
            self.text.extend_from_slice(part);
        }
        self.add(start, name, value.len());
    }

    /// Adds all fields of another list at the end.
    pub fn append(&mut self, other: &Self) {
        let start = count(self.text.len());
        self.text.extend_from_slice(&other.text);
        self.entries.extend(other.entries.iter().map(|entry| Entry { start: start + entry.start, ..*entry }));
        self.tags |= other.tags;
    }

    /// Adds a field at the end that came marked as one that no hop may keep in a compression table (RFC 7541 §7.1.3).
    pub fn push_sensitive(&mut self, name: &[u8], value: &[u8]) {
        self.push(name, value);
        if let Some(entry) = self.entries.last_mut() {
            entry.sensitive = true;
        }
    }

    /// Gives the first field of that name this value, where it is and in the case it has, and removes the others of that
    /// name; adds it at the end if there is none.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let tag = tag_of(name.as_bytes());
        let first = self.entries.iter().position(|entry| entry.is(tag, name.as_bytes(), &self.text));
        let Some(first) = first else { return self.push(name.as_bytes(), value) };
        let start = self.text.len();
        if let Some(entry) = self.entries.get_mut(first) {
            self.text.extend_from_within(entry.start as usize..entry.name_end());
            (entry.start, entry.value) = (count(start), count(value.len()));
        }
        for part in [SEPARATOR, value, LINE_END] {
            self.text.extend_from_slice(part);
        }
        let (text, mut at) = (&self.text, 0..);
        self.entries.retain(|entry| at.next() == Some(first) || !entry.is(tag, name.as_bytes(), text));
    }

    /// The same, but adds it at the beginning if there is none.
    pub fn set_first(&mut self, name: &str, value: &[u8]) {
        let before = self.len();
        self.set(name, value);
        if self.len() > before {
            self.entries.rotate_right(1);
        }
    }

    /// Removes all fields of that name. Says whether there were any.
    pub fn remove(&mut self, name: &str) -> bool {
        let tag = tag_of(name.as_bytes());
        if !self.may_hold(tag) {
            return false;
        }
        let (before, text) = (self.len(), &self.text);
        self.entries.retain(|entry| !entry.is(tag, name.as_bytes(), text));
        self.len() < before
    }

    /// Keeps the fields of which `keep(name, value)` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let text = &self.text;
        self.entries.retain(|entry| keep(entry.name(text), entry.value(text)));
    }

    /// Keeps the fields of which `keep(name, value)` is true, and asks only about fields whose names `among` may hold.
    pub fn retain_among(&mut self, among: Names, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        if self.tags & among.0 == 0 {
            return;
        }
        let text = &self.text;
        let is_safe = |entry: &Entry| among.0 & (1 << entry.tag) == 0;
        self.entries.retain(|entry| is_safe(entry) || keep(entry.name(text), entry.value(text)));
    }

    /// Adds a field whose line is the next `name.len() + value + 4` bytes that [`Self::add_lines`] will bring.
    pub(crate) fn add(&mut self, start: usize, name: &[u8], value: usize) {
        let tag = tag_of(name);
        self.tags |= 1 << tag;
        self.entries.push(Entry {
            start: count(start),
            name: count(name.len()),
            value: count(value),
            tag,
            sensitive: false,
        });
    }

    /// Adds lines whose fields [`Self::add`] has told.
    pub(crate) fn add_lines(&mut self, lines: &[u8]) {
        self.text.extend_from_slice(lines);
    }

    /// Where the next line will begin.
    pub(crate) const fn end(&self) -> usize {
        self.text.len()
    }

    const fn may_hold(&self, tag: u8) -> bool {
        self.tags & (1 << tag) != 0
    }
}

/// Tells most names apart at once, in any case: 0 to 63. Looks at nothing but the length and both ends.
const fn tag_of(name: &[u8]) -> u8 {
    let (first, last) = match name {
        [first, .., last] => (*first | 0x20, *last | 0x20),
        [only] => (*only | 0x20, *only | 0x20),
        [] => (0x20, 0x20),
    };
    let [length, ..] = name.len().to_le_bytes();
    length.wrapping_mul(11).wrapping_add(first.wrapping_mul(5)).wrapping_add(last) & 63
}

/// Heads are bounded far below 4 GiB by the limits of whoever reads them.
fn count(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

impl Clone for Fields {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), entries: self.entries.clone(), tags: self.tags }
    }

    fn clone_from(&mut self, other: &Self) {
        self.text.clone_from(&other.text);
        self.entries.clone_from(&other.entries);
        self.tags = other.tags;
    }
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
    fn a_set_of_names_holds_them_in_any_case() {
        let names = Names::NONE.with(b"x-one").with(b"q");
        let mut fields = fields();
        fields.push(b"Q", b"3");
        let mut asked = Vec::new();
        fields.retain_among(names, |name, _| {
            asked.push(name.to_ascii_lowercase());
            false
        });
        for name in [&b"x-one"[..], b"q"] {
            assert!(asked.iter().any(|asked| asked == name));
        }
        assert_eq!(fields, [("Host", "a"), ("Connection", "close, X-Two")].into_iter().collect());
        fields.retain_among(Names::ALL, |_, _| false);
        assert!(fields.is_empty());
    }

    #[test]
    fn a_list_is_added_to_another() {
        let mut fields: Fields = [("A", "1")].into_iter().collect();
        let mut more: Fields = [("Gone", "x"), ("B", "2"), ("C", "3")].into_iter().collect();
        more.remove("gone");
        fields.append(&more);
        fields.append(&Fields::new());
        assert_eq!(fields, [("A", "1"), ("B", "2"), ("C", "3")].into_iter().collect());
        assert_eq!((fields.get("b"), fields.contains("gone")), (Some(&b"2"[..]), false));
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

    #[test]
    fn setting_first_adds_at_the_beginning() {
        let mut fields = fields();
        fields.set_first("x-one", b"3");
        fields.set_first("x-new", b"4");
        let lines: Vec<u8> = fields.lines().flatten().copied().collect();
        assert_eq!(lines, b"x-new: 4\r\nHost: a\r\nX-One: 3\r\nConnection: close, X-Two\r\n");
    }

    #[test]
    fn lines_are_what_is_left_in_order() {
        let mut fields = fields();
        assert_eq!(fields.lines().count(), 1);
        fields.set("x-one", b"3");
        fields.remove("host");
        fields.push(b"Z", b"");
        let lines = fields.lines().flatten().copied().collect();
        assert_eq!(String::from_utf8(lines).unwrap(), "X-One: 3\r\nConnection: close, X-Two\r\nZ: \r\n");
    }
}
