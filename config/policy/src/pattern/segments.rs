//! Matching by whole segments, shared by ID patterns and path patterns.
//!
//! Owns the meaning of `*`, `{name}` and `**`. It must never look inside a segment; what makes two
//! literal segments equal is the caller's to say.

use super::error::PatternError;

/// Longest accepted name of a capture, in bytes.
const MAX_CAPTURE_BYTES: usize = 64;

/// One segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Segment {
    /// Exactly this text.
    Literal(Box<str>),
    /// `*`: any one segment.
    One,
    /// `{name}`: any one segment, with a name.
    Capture(Box<str>),
}

/// The segments of a pattern and whether more may follow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Segments {
    parts: Box<[Segment]>,
    /// The pattern ends in `**`.
    rest: bool,
}

impl Segments {
    /// Parses what follows the first `/`. `literal` checks a literal segment and gives its stored form.
    pub(crate) fn parse(
        path: &str,
        literal: impl Fn(&str) -> Result<Box<str>, PatternError>,
    ) -> Result<Self, PatternError> {
        let mut parts = Vec::new();
        let mut rest = false;
        for segment in path.split('/') {
            if rest {
                return Err(PatternError::RestNotLast);
            }
            match segment {
                "**" => rest = true,
                "*" => parts.push(Segment::One),
                _ => parts.push(parse_segment(segment, &parts, &literal)?),
            }
        }
        Ok(Self { parts: parts.into(), rest })
    }

    /// The pattern of the root path, which has no segments.
    pub(crate) fn root() -> Self {
        Self { parts: Box::default(), rest: false }
    }

    /// Whether all of `path` matches; `equal(pattern, segment)` compares literal segments.
    pub(crate) fn matches<'a>(
        &self,
        mut path: impl Iterator<Item = &'a str>,
        equal: impl Fn(&str, &str) -> bool,
    ) -> bool {
        for part in &self.parts {
            let Some(segment) = path.next() else { return false };
            match part {
                Segment::Literal(text) if !equal(text, segment) => return false,
                Segment::Literal(_) | Segment::One | Segment::Capture(_) => {}
            }
        }
        self.rest || path.next().is_none()
    }

    /// Names and values of the captures of a path that is known to match.
    pub(crate) fn captures<'a>(&'a self, path: impl Iterator<Item = &'a str>) -> Vec<(&'a str, &'a str)> {
        self.parts
            .iter()
            .zip(path)
            .filter_map(|(part, segment)| match part {
                Segment::Capture(name) => Some((&**name, segment)),
                Segment::Literal(_) | Segment::One => None,
            })
            .collect()
    }

    pub(crate) fn capture_names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Segment::Capture(name) => Some(&**name),
            Segment::Literal(_) | Segment::One => None,
        })
    }

    /// Whether exactly one path matches.
    pub(crate) fn is_literal(&self) -> bool {
        !self.rest && self.parts.iter().all(|part| matches!(part, Segment::Literal(_)))
    }

    /// Whether the pattern is `**` alone.
    pub(crate) fn is_only_rest(&self) -> bool {
        self.rest && self.parts.is_empty()
    }

    pub(crate) fn parts(&self) -> &[Segment] {
        &self.parts
    }

    pub(crate) fn has_rest(&self) -> bool {
        self.rest
    }
}

fn parse_segment(
    segment: &str,
    before: &[Segment],
    literal: &impl Fn(&str) -> Result<Box<str>, PatternError>,
) -> Result<Segment, PatternError> {
    if let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_');
        if name.is_empty() || name.len() > MAX_CAPTURE_BYTES || !name.chars().all(allowed) {
            return Err(PatternError::CaptureName { name: name.into() });
        }
        let same = |part: &Segment| matches!(part, Segment::Capture(other) if **other == *name);
        if before.iter().any(same) {
            return Err(PatternError::DuplicateCapture { name: name.into() });
        }
        return Ok(Segment::Capture(name.into()));
    }
    if segment.contains(['*', '{', '}']) {
        return Err(PatternError::PartialWildcard { segment: segment.into() });
    }
    Ok(Segment::Literal(literal(segment)?))
}
