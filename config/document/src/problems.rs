//! What a validation finds: problems by key, before anyone knows in which line that key stands.
//!
//! A validation is a pure function over a value that was read. It names the key; whoever read the value knows where
//! that key came from (a line, a variable, a flag, a default) and turns the problem into a
//! [`crate::diagnostic::Diagnostic`].

/// One thing that is wrong with the value of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `inbound[0].forward`.
    pub key: String,
    /// What was found and what was expected, as one sentence without a final stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Whether the key itself is the mistake, and not its value.
    pub is_about_key: bool,
}

/// The problems that a validation has found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problem {
    fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), help: None, is_about_key: false }
    }
}

impl Problems {
    /// Notes a problem with the value of `key`, such as `inbound[0].forward`.
    pub fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem::new(key, message));
    }

    /// As [`Self::add`], with what to do about it.
    pub fn add_with_help(
        &mut self,
        key: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.0.push(Problem { help: Some(help.into()), ..Problem::new(key, message) });
    }

    /// As [`Self::add_with_help`], for a key that cannot be there, whatever its value.
    pub fn add_about_key(
        &mut self,
        key: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let help = Some(help.into());
        self.0.push(Problem { help, is_about_key: true, ..Problem::new(key, message) });
    }

    /// Whether nothing is wrong so far.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The problems, in the order in which they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
