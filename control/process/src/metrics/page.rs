//! The text that Prometheus reads, version 0.0.4 of its format.

use std::fmt::{self, Display, Write as _};

/// What a family of numbers is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by bound, with their number and their sum.
    Histogram,
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// A page of metrics. Writing onto it cannot fail.
pub struct Page(String);

impl Page {
    /// The media type of a page.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    pub(super) const fn of(text: String) -> Self {
        Self(text)
    }

    /// Begins a family; its samples come next.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        self.0.push_str("# HELP ");
        self.0.push_str(name);
        self.0.push(' ');
        self.escape(help, false);
        let _ = write!(self.0, "\n# TYPE {name} {kind}\n");
    }

    /// One number of the family that was begun.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            self.escape(text, true);
            self.0.push('"');
        }
        self.0.push_str(if labels.is_empty() { " " } else { "} " });
        let _ = writeln!(self.0, "{value}");
    }

    fn escape(&mut self, text: &str, is_quoted: bool) {
        for letter in text.chars() {
            match letter {
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                '"' if is_quoted => self.0.push_str("\\\""),
                letter => self.0.push(letter),
            }
        }
    }

    /// The page as it is served.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_its_help_its_type_and_its_samples() {
        let mut page = Page::of(String::new());
        page.family("size_bytes", Kind::Gauge, "As \"large\" as C:\\ is\nor more");
        page.sample("size_bytes", &[], 0.5);
        page.sample("size_bytes", &[("of", "a \"b\" \\ c\nd"), ("x", "")], 7);
        assert_eq!(
            page.into_text(),
            "# HELP size_bytes As \"large\" as C:\\\\ is\\nor more\n\
             # TYPE size_bytes gauge\n\
             size_bytes 0.5\n\
             size_bytes{of=\"a \\\"b\\\" \\\\ c\\nd\",x=\"\"} 7\n"
        );
    }
}
