//! How the story looks on the terminal: numbered steps, and under each what the parts themselves said.

use std::io::{IsTerminal as _, Write as _};

/// The teller. Colour only on a terminal.
pub struct Story {
    colour: bool,
    step: usize,
}

impl Story {
    /// A story that has not begun.
    pub fn new() -> Self {
        Self { colour: std::io::stdout().is_terminal(), step: 0 }
    }

    /// Begins the next step.
    pub fn step(&mut self, title: &str) {
        self.step += 1;
        write_line(&format!("\n{}", self.paint("1", &format!("{}. {title}", self.step))));
    }

    /// What a part said.
    pub fn said(&self, part: &str, line: &str) {
        write_line(&format!("{} | {line}", self.paint("36", &format!("{part:>15}"))));
    }

    /// What we checked and found to be so.
    pub fn proved(&self, fact: &str) {
        write_line(&format!("{} {fact}", self.paint("32", &format!("{:>17}", "✓"))));
    }

    /// A heading without a number.
    pub fn heading(&self, text: &str) {
        write_line(&format!("\n{}", self.paint("1", text)));
    }

    /// Anything else that the reader should know.
    pub fn note(&self, text: &str) {
        write_line(&format!("  {text}"));
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A terminal that has gone away must not end the story in the middle: the processes still have to be stopped.
fn write_line(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// The words of a log line, without its time and level.
pub fn words(line: &str) -> &str {
    [" INFO ", " WARN ", " ERROR "]
        .iter()
        .find_map(|level| line.split_once(level))
        .map_or(line, |(_, words)| words.trim())
}
