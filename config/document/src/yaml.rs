//! YAML in which every value and every key knows its line and column.
//!
//! It accepts the part of YAML that people write by hand, in one document: no anchors, aliases, tags or merge keys
//! (they make small files large, and what a line means depends on another), no duplicate keys, keys are plain text.
//! JSON is YAML, so JSON files are read as well. It must never interpret a value: whether `8443` is a number or a name, the schema says.

mod hcl;

use std::path::Path;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    finding::Finding,
    node::{Content, Entry, Node, Position},
};

/// Largest file in bytes.
pub const MAX_BYTES: usize = 4 << 20;
/// Deepest nesting of lists and mappings.
pub const MAX_DEPTH: usize = 64;
/// Most values in one file.
pub const MAX_NODES: usize = 1_000_000;

impl From<Marker> for Position {
    fn from(marker: Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
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
        return Err(problem.in_file(file).into());
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { parser: Parser::new_from_str(text), nodes: 0, problems: Vec::new() };
    let root = reader.document();
    let mut problems: Vec<_> = reader.problems.into_iter().map(|problem| problem.in_file(file)).collect();
    match root {
        Ok(root) => Diagnostics::check(problems).map(|()| root),
        Err(fatal) => {
            problems.push(fatal.in_file(file));
            Diagnostics::check(problems).map(|()| empty_map(Position { line: 1, column: 1 }))
        }
    }
}

impl From<ScanError> for Finding {
    fn from(error: ScanError) -> Self {
        let message = format!("this is not YAML: {}", error.info());
        let problem = Self::at((*error.marker()).into(), message);
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
    problems: Vec<Finding>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Finding> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Nothing | Event::StreamStart, _))) => {}
                Some(Ok(event)) => return Ok(event),
                Some(Err(error)) => return Err(error.into()),
                None => return Ok((Event::StreamEnd, Span::default())),
            }
        }
    }

    fn document(&mut self) -> Result<Node, Finding> {
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
                Err(Finding::at(second.start.into(), "a second document begins here; a file holds one"))
            }
        }
    }

    fn node(&mut self, (event, span): (Event<'a>, Span), depth: usize) -> Result<Node, Finding> {
        let position = Position::from(span.start);
        self.nodes += 1;
        if depth > MAX_DEPTH {
            return Err(Finding::at(position, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if self.nodes > MAX_NODES {
            return Err(Finding::at(position, format!("more than {MAX_NODES} values in one file")));
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
                    Finding::at(position, "aliases (`*name`) are not supported").help("write the value out"),
                );
                Content::Scalar { text: String::new(), plain: true }
            }
            _ => return Err(Finding::at(position, "the document ends in the middle of a value")),
        };
        Ok(Node { position, content })
    }

    fn refuse_extras(&mut self, position: Position, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.problems.push(
                Finding::at(position, "anchors (`&name`) are not supported").help("write the value out"),
            );
        }
        if tagged {
            self.problems
                .push(Finding::at(position, "tags (`!name`) are not supported").help("put text in quotes"));
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Finding> {
        let mut items = Vec::new();
        loop {
            let event = self.next()?;
            if event.0 == Event::SequenceEnd {
                return Ok(items);
            }
            items.push(self.node(event, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Finding> {
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
                    .push(Finding::at(key.position, "a key is plain text, found a list or a mapping"));
                continue;
            };
            if let Some(Position { line, .. }) = seen.insert(text.clone(), key.position) {
                let message =
                    format!("the key `{text}` is here for the second time; the first is in line {line}");
                self.problems.push(Finding::at(key.position, message));
                continue;
            }
            entries.push(Entry { key: text, key_position: key.position, value });
        }
    }
}

#[cfg(test)]
mod tests;
