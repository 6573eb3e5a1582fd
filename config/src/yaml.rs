//! YAML in which every value and every key knows its line and column.
//!
//! The one reader for configuration files and policies. It accepts the part of YAML that people write by
//! hand, in one document: no anchors, aliases, tags or merge keys (they make small files large, and what a
//! line means depends on another), no duplicate keys, keys are plain text. JSON is YAML, so JSON files are
//! read as well. It must never interpret a value: whether `8443` is a number or a name, the schema says.

mod hcl;

use std::path::Path;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use crate::diagnostic::{Diagnostic, Diagnostics};

/// Largest file in bytes.
pub const MAX_BYTES: usize = 4 << 20;
/// Deepest nesting of lists and mappings.
pub const MAX_DEPTH: usize = 64;
/// Most values in one file.
pub const MAX_NODES: usize = 1_000_000;

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl From<Marker> for Position {
    fn from(marker: Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where the value begins.
    pub position: Position,
    /// The value.
    pub content: Content,
}

/// What a value is, as far as YAML's syntax says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A text in quotes or without; a plain one may be meant as a number.
    Scalar {
        /// The text as it was written, without quotes.
        text: String,
        /// Whether it stood without quotes.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<Entry>),
}

/// A key, its value, and where the key stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub key_position: Position,
    /// The value.
    pub value: Node,
}

impl Node {
    /// Whether nothing was written, or `null` or `~` (YAML 1.2 core schema, §10.3.2).
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// Reads one document. An empty one is an empty mapping.
///
/// # Errors
/// What is not YAML or not in the accepted part of it, with its place. `file` is only named, never opened.
pub fn parse(text: &str, file: &Path) -> Result<Node, Diagnostics> {
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes; at most {MAX_BYTES} are read", text.len());
        return Err(Diagnostic::new(message).at(file, 0, 0).into());
    }
    if let Some(problem) = hcl::recognize(text) {
        return Err(place(problem, file).into());
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { parser: Parser::new_from_str(text), nodes: 0, problems: Vec::new() };
    let root = reader.document();
    let mut problems: Vec<_> = reader.problems.into_iter().map(|problem| place(problem, file)).collect();
    match root {
        Ok(root) => Diagnostics::check(problems).map(|()| root),
        Err(fatal) => {
            problems.push(place(fatal, file));
            Diagnostics::check(problems).map(|()| empty_map(Position { line: 1, column: 1 }))
        }
    }
}

fn place(problem: Problem, file: &Path) -> Diagnostic {
    let diagnostic =
        Diagnostic::new(problem.message).at(file, problem.position.line, problem.position.column);
    match problem.help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

/// A problem whose file is known to the caller.
struct Problem {
    position: Position,
    message: String,
    help: Option<String>,
}

impl Problem {
    fn new(position: Position, message: impl Into<String>) -> Self {
        Self { position, message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<ScanError> for Problem {
    fn from(error: ScanError) -> Self {
        let message = format!("this is not YAML: {}", error.info());
        let problem = Self::new((*error.marker()).into(), message);
        if error.info().contains("tab") {
            return problem.help("YAML is indented with spaces, never with tabs");
        }
        problem
    }
}

const fn empty_map(position: Position) -> Node {
    Node { position, content: Content::Map(Vec::new()) }
}

/// Builds the tree from the parser's events. A problem that leaves the structure intact is collected; only
/// what makes the rest unreadable ends the reading.
struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    nodes: usize,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Nothing | Event::StreamStart, _))) => {}
                Some(Ok(event)) => return Ok(event),
                Some(Err(error)) => return Err(error.into()),
                None => return Ok((Event::StreamEnd, Span::default())),
            }
        }
    }

    fn document(&mut self) -> Result<Node, Problem> {
        let (event, span) = self.next()?;
        if event == Event::StreamEnd {
            return Ok(empty_map(Position { line: 1, column: 1 }));
        }
        // The event was DocumentStart.
        let start = self.next()?;
        let root = self.node(start, 0)?;
        self.next()?;
        match self.next()? {
            (Event::StreamEnd, _) if root.is_null() => Ok(empty_map(span.start.into())),
            (Event::StreamEnd, _) => Ok(root),
            (_, second) => {
                Err(Problem::new(second.start.into(), "a second document begins here; a file holds one"))
            }
        }
    }

    fn node(&mut self, (event, span): (Event<'a>, Span), depth: usize) -> Result<Node, Problem> {
        let position = Position::from(span.start);
        self.nodes += 1;
        if depth > MAX_DEPTH {
            return Err(Problem::new(position, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if self.nodes > MAX_NODES {
            return Err(Problem::new(position, format!("more than {MAX_NODES} values in one file")));
        }
        let content = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(position, anchor, tag.is_some());
                Content::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(position, anchor, tag.is_some());
                Content::List(self.list(depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(position, anchor, tag.is_some());
                Content::Map(self.map(depth)?)
            }
            Event::Alias(_) => {
                self.problems.push(
                    Problem::new(position, "aliases (`*name`) are not supported").help("write the value out"),
                );
                Content::Scalar { text: String::new(), plain: true }
            }
            _ => return Err(Problem::new(position, "the document ends in the middle of a value")),
        };
        Ok(Node { position, content })
    }

    fn refuse_extras(&mut self, position: Position, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.problems.push(
                Problem::new(position, "anchors (`&name`) are not supported").help("write the value out"),
            );
        }
        if tagged {
            self.problems
                .push(Problem::new(position, "tags (`!name`) are not supported").help("put text in quotes"));
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Problem> {
        let mut items = Vec::new();
        loop {
            let event = self.next()?;
            if event.0 == Event::SequenceEnd {
                return Ok(items);
            }
            items.push(self.node(event, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Problem> {
        let mut entries = Vec::new();
        let mut seen = std::collections::HashMap::new();
        loop {
            let event = self.next()?;
            if event.0 == Event::MappingEnd {
                return Ok(entries);
            }
            let key = self.node(event, depth + 1)?;
            let value_event = self.next()?;
            let value = self.node(value_event, depth + 1)?;
            let Content::Scalar { text, .. } = key.content else {
                self.problems
                    .push(Problem::new(key.position, "a key is plain text, found a list or a mapping"));
                continue;
            };
            if let Some(Position { line, .. }) = seen.insert(text.clone(), key.position) {
                let message =
                    format!("the key `{text}` is here for the second time; the first is in line {line}");
                self.problems.push(Problem::new(key.position, message));
                continue;
            }
            entries.push(Entry { key: text, key_position: key.position, value });
        }
    }
}

#[cfg(test)]
mod tests;
