//! What a validation finds: problems by key, before anyone knows in which line that key stands.
//!
//! A validation is a pure function over settings. It names the key; the loader knows where the value of
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
}

/// The problems that a validation has found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a problem with the value of `key`, such as `inbound[0].forward`.
    pub fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { key: key.into(), message: message.into(), help: None });
    }

    /// As [`Self::add`], with what to do about it.
    pub fn add_with_help(
        &mut self,
        key: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.0.push(Problem { key: key.into(), message: message.into(), help: Some(help.into()) });
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

    pub(crate) fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}
