//! One mistake of a document, before anyone knows which file, variable or flag the document came from.

use std::path::Path;

use crate::{diagnostic::Diagnostic, node::Position};

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The key, such as `inbound[0].forward`; empty when the mistake is not about one key.
    pub key: String,
    /// Where it stands; `None` when the document as a whole lacks something.
    pub position: Option<Position>,
    /// What was found and what was expected, as one sentence without a final stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Finding {
    /// A mistake that stands at `position`.
    #[must_use]
    pub fn at(position: Position, message: impl Into<String>) -> Self {
        Self { key: String::new(), position: Some(position), message: message.into(), help: None }
    }

    /// The same mistake, with what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The mistake as one of a file.
    #[must_use]
    pub fn in_file(self, file: &Path) -> Diagnostic {
        let (line, column) = self.position.map_or((0, 0), |at| (at.line, at.column));
        Diagnostic { help: self.help, ..Diagnostic::new(self.message).path(self.key).at(file, line, column) }
    }
}
