//! What is still asked about a request when its head has been sent on: for its record, and for deciding again.
//!
//! Holds copies in one piece of memory that is used again for the next request; decides nothing.

use super::{RequestHead, head::MOST_KEPT};

/// Method, path and host of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// All three, in this order.
    text: String,
    /// Where the method ends.
    method_end: usize,
    /// Where the path ends.
    path_end: usize,
    has_host: bool,
}

impl Summary {
    /// Forgets the request and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        (self.method_end, self.path_end, self.has_host) = (0, 0, false);
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.text.capacity()
    }

    /// Gives back the memory that only an unusually long path needs. The request must not be needed any more.
    pub fn shrink(&mut self) {
        if self.memory() > MOST_KEPT {
            *self = Self::default();
        }
    }

    /// Takes down what `head` says now.
    pub fn set(&mut self, head: &RequestHead) {
        self.text.clear();
        self.text.push_str(&head.method);
        self.method_end = self.text.len();
        self.text.push_str(head.path());
        self.path_end = self.text.len();
        let host = head.host();
        self.has_host = host.is_some();
        self.text.push_str(host.unwrap_or_default());
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.text.get(..self.method_end).unwrap_or_default()
    }

    /// The path without its query, which may hold secrets.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(self.method_end..self.path_end).unwrap_or_default()
    }

    /// The authority of the target, else the `Host` field.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        if self.has_host { self.text.get(self.path_end..) } else { None }
    }
}

impl Clone for Summary {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), ..*self }
    }

    fn clone_from(&mut self, other: &Self) {
        self.text.clear();
        self.text.push_str(&other.text);
        (self.method_end, self.path_end, self.has_host) = (other.method_end, other.path_end, other.has_host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_left_out_and_the_next_request_leaves_nothing_of_the_last() {
        let mut summary = Summary::default();
        let fields = [("Host", "demo:80")].into_iter().collect();
        summary.set(&RequestHead {
            method: "DELETE".into(),
            target: "/a/b?secret=1".into(),
            fields,
            ..RequestHead::default()
        });
        assert_eq!((summary.method(), summary.path(), summary.host()), ("DELETE", "/a/b", Some("demo:80")));
        let copy = summary.clone();
        summary.set(&RequestHead { method: "GET".into(), target: "*".into(), ..RequestHead::default() });
        assert_eq!((summary.method(), summary.path(), summary.host()), ("GET", "*", None));
        summary.clone_from(&copy);
        assert_eq!(summary, copy);
        summary.clear();
        assert_eq!(summary, Summary::default());
    }
}
