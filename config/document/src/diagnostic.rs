//! What is wrong with a configuration, and where.
//!
//! Owns the one shape in which every file, variable and flag is complained about. All problems of an
//! input are collected before anything is reported, so that a user fixes a file once and not line by
//! line. It must never decide what is wrong.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;
use svidecar_code::Code;

/// Most problems that are printed; a file that is not what it should be has thousands.
const MAX_PRINTED: usize = 50;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file it is in; `None` for variables and flags, which the message names.
    pub file: Option<PathBuf>,
    /// Line, from 1; 0 when the problem is about the file as a whole.
    pub line: usize,
    /// Column in characters, from 1; 0 when the problem is about the file as a whole.
    pub column: usize,
    /// The key, such as `inbound[0].forward`; empty when the problem is not about one key.
    pub path: String,
    /// What was found and what was expected, as one sentence without a final stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A problem that has no place yet.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { file: None, line: 0, column: 0, path: String::new(), message: message.into(), help: None }
    }

    /// The same problem, placed in a file. Line and column count from 1.
    #[must_use]
    pub fn at(mut self, file: &Path, line: usize, column: usize) -> Self {
        self.file = Some(file.to_owned());
        self.line = line;
        self.column = column;
        self
    }

    /// The same problem, about one key.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// The same problem, with what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if self.line > 0 {
                write!(f, "{}:{}:", self.line, self.column)?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n    help: {help}"),
            None => Ok(()),
        }
    }
}

/// All problems of one configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// `Ok` when there is no problem, else all of them, in the order of the file.
    ///
    /// # Errors
    /// The problems, when there is one.
    pub fn check(mut problems: Vec<Diagnostic>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        problems.dedup();
        Err(Self(problems))
    }

    /// The problems, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// The stable code of every configuration error.
    #[must_use]
    pub const fn code(&self) -> Code {
        Code::InvalidConfiguration
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(problem: Diagnostic) -> Self {
        Self(vec![problem])
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(MAX_PRINTED).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        match self.0.len().checked_sub(MAX_PRINTED) {
            Some(more @ 1..) => write!(f, "\n… and {more} more problems"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_place_the_sentence_and_the_help() {
        let problem =
            Diagnostic::new("unknown key `prot`").at(Path::new("a.yaml"), 3, 5).help("write `port`");
        assert_eq!(problem.to_string(), "a.yaml:3:5: unknown key `prot`\n    help: write `port`");
        assert_eq!(Diagnostic::new("no place").to_string(), "no place");
        assert_eq!(
            Diagnostic::new("unreadable").at(Path::new("a.yaml"), 0, 0).to_string(),
            "a.yaml: unreadable"
        );
    }

    #[test]
    fn collects_in_the_order_of_the_file_without_repeating() {
        let at = |line, message: &str| Diagnostic::new(message).at(Path::new("a.yaml"), line, 1);
        assert_eq!(Diagnostics::check(vec![]), Ok(()));
        let all = Diagnostics::check(vec![at(9, "late"), at(2, "early"), at(9, "late")]).unwrap_err();
        assert_eq!(all.to_string(), "a.yaml:2:1: early\na.yaml:9:1: late");
        assert_eq!(all.code(), "invalid_configuration");
    }

    #[test]
    fn prints_a_bounded_number() {
        let problems = (0..60).map(|n| Diagnostic::new(format!("problem {n}"))).collect();
        let text = Diagnostics::check(problems).unwrap_err().to_string();
        assert_eq!(text.lines().count(), MAX_PRINTED + 1);
        assert!(text.ends_with("… and 10 more problems"), "{text}");
    }
}
