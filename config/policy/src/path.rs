//! Patterns over request paths.
//!
//! Owns `/orders/{id}` and `/static/**`. A pattern is compared with the percent-decoded segments of a
//! normalized path, and a trailing slash is ignored on both sides: routers differ there, and a rule
//! must not depend on which one the application has. It must never match part of a segment.

use std::{fmt, str::FromStr};

use svidecar_document::{text::InvalidValue, text_value};

use crate::{
    normalize::decodes_to,
    pattern::{PatternError, Segments},
};

/// Longest accepted pattern, in bytes.
const MAX_BYTES: usize = 2048;

/// A pattern over normalized paths.
pub(crate) struct PathPattern {
    text: Box<str>,
    segments: Segments,
}

impl PathPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// The first rule of the grammar that the text breaks, or why no normalized path could match it.
    fn parse(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_BYTES {
            return Err(PatternError::NotNormalized(format!("the pattern has over {MAX_BYTES} bytes")));
        }
        let path = text.strip_prefix('/').ok_or(PatternError::RelativePath)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let segments = if path.is_empty() { Segments::root() } else { Segments::parse(path, literal)? };
        Ok(Self { text: text.into(), segments })
    }

    /// Whether a normalized path matches.
    #[inline]
    pub(crate) fn matches(&self, path: &str) -> bool {
        let path = path.strip_suffix('/').unwrap_or(path);
        self.segments
            .matches(SegmentsOf(path.strip_prefix('/')), |literal, segment| decodes_to(segment, literal))
    }
}

/// What stands between the slashes of a path without its first one. Segments are short, so that looking at each byte is
/// faster than the search that `str::split` does.
struct SegmentsOf<'p>(Option<&'p str>);

impl<'p> Iterator for SegmentsOf<'p> {
    type Item = &'p str;

    fn next(&mut self) -> Option<&'p str> {
        let rest = self.0.take()?;
        let Some(end) = rest.bytes().position(|byte| byte == b'/') else { return Some(rest) };
        self.0 = rest.get(end + 1..);
        rest.get(..end)
    }
}

/// Checks a literal segment and gives it percent-decoded.
fn literal(segment: &str) -> Result<Box<str>, PatternError> {
    let never = |why: &str| Err(PatternError::NotNormalized(why.to_owned()));
    let Some(decoded) = percent_decode(segment) else {
        return never("a % must be followed by two hex digits that are part of valid UTF-8");
    };
    match &*decoded {
        "" => return never("runs of slashes are merged into one"),
        "." | ".." => return never("dot segments are resolved"),
        _ => {}
    }
    if segment.contains(['?', '#']) {
        return never("the query is not part of the path");
    }
    match decoded.chars().find(|c| matches!(c, '/' | '\\' | ';' | '\0')) {
        Some(found) => never(&format!("a path with an encoded or raw {found:?} in a segment is refused")),
        None => Ok(decoded.into()),
    }
}

fn percent_decode(segment: &str) -> Option<String> {
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        out.push(u8::try_from(high << 4 | low).ok()?);
    }
    String::from_utf8(out).ok()
}

impl FromStr for PathPattern {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::parse(text).map_err(|error| InvalidValue(format!("`{text}`: {error}")))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

text_value!(PathPattern, "PathPattern", "path-pattern", ["/orders/{id}", "/static/**"]);

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}
