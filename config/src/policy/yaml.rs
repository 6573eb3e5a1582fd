//! YAML as a tree that knows where everything was written.

use std::path::Path;

use saphyr_parser::{Event, Parser, ScanError, Span};

use crate::diagnostic::Diagnostic;

/// Deepest accepted nesting.
const MAX_DEPTH: usize = 64;

/// A value and where it begins; line and column count from 1.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    Scalar(String),
    Sequence(Vec<Node>),
    /// Keys are unique scalars, in the order of the file.
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }
}

/// Reads the one document of a file.
pub(crate) fn read(text: &str, file: &Path) -> Result<Node, Diagnostic> {
    let mut builder = Builder { parser: Parser::new_from_str(text), file };
    loop {
        match builder.next()? {
            Some((Event::StreamStart | Event::DocumentStart(_), _)) => {}
            Some((Event::StreamEnd | Event::DocumentEnd, _)) | None => {
                return Err(Diagnostic::new("the file is empty").at(file, 1, 1));
            }
            Some((event, span)) => {
                let node = builder.node(event, span, 0)?;
                return builder.finish().map(|()| node);
            }
        }
    }
}

struct Builder<'t> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    file: &'t Path,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Diagnostic> {
        self.parser.next().transpose().map_err(|error: ScanError| {
            let at = error.marker();
            Diagnostic::new(format!("not valid YAML: {}", error.info())).at(
                self.file,
                at.line(),
                at.col() + 1,
            )
        })
    }

    fn problem(&self, span: Span, message: &str) -> Diagnostic {
        Diagnostic::new(message).at(self.file, span.start.line(), span.start.col() + 1)
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Diagnostic> {
        if depth > MAX_DEPTH {
            return Err(self.problem(span, "nested too deeply"));
        }
        let value = match event {
            Event::Scalar(text, ..) => Value::Scalar(text.into_owned()),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                while let Some((event, span)) = self.next()? {
                    if event == Event::SequenceEnd {
                        break;
                    }
                    items.push(self.node(event, span, depth + 1)?);
                }
                Value::Sequence(items)
            }
            Event::MappingStart(..) => self.mapping(depth)?,
            _ => return Err(self.problem(span, "aliases and tags are not supported here")),
        };
        Ok(Node { line: span.start.line(), column: span.start.col() + 1, value })
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, Diagnostic> {
        let mut pairs: Vec<(Node, Node)> = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let key = self.node(event, span, depth + 1)?;
            let Some(name) = key.text() else { return Err(self.problem(span, "a key must be a name")) };
            if pairs.iter().any(|(other, _)| other.text() == Some(name)) {
                return Err(self.problem(span, &format!("the key `{name}` appears twice")));
            }
            let Some((event, span)) = self.next()? else { break };
            let value = self.node(event, span, depth + 1)?;
            pairs.push((key, value));
        }
        Ok(Value::Mapping(pairs))
    }

    fn finish(mut self) -> Result<(), Diagnostic> {
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::DocumentStart(_)) {
                return Err(self.problem(span, "a file holds one document"));
            }
        }
        Ok(())
    }
}
