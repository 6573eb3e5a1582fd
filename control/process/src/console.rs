//! Where commands print. The only place of a command line that knows stdout and stderr.
//!
//! Owns what may be coloured and in which order the two streams are seen. It never panics because a reader went away:
//! that is an error like any other, which [`command`](crate::command) turns into an exit code.

use std::io::{self, BufWriter, IsTerminal, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    #[value(alias = "text")]
    Pretty,
    /// For programs
    Json,
}

/// The flag that chooses the format.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct OutputArgs {
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
}

/// Whether a stream is to have colours: a terminal is, unless `NO_COLOR` is set.
pub fn shows_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What a word says beyond its letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Good, or more.
    Green,
    /// Other than it was.
    Yellow,
    /// Bad, or less.
    Red,
}

/// The two streams of a command.
pub struct Console {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    is_coloured: bool,
}

impl Console {
    /// The process's own streams; colour only on a terminal, and not under `NO_COLOR`.
    #[must_use]
    pub fn of_process() -> Self {
        let is_coloured = shows_colours(&io::stdout());
        Self { is_coloured, ..Self::new(BufWriter::new(io::stdout()), io::stderr()) }
    }

    /// Prints to `out`, and says what is no result to `err`. No colours.
    pub fn new(out: impl Write + 'static, err: impl Write + 'static) -> Self {
        Self { out: Box::new(out), err: Box::new(err), is_coloured: false }
    }

    /// Prints no results from now on.
    pub fn silence(&mut self) {
        self.out = Box::new(io::sink());
    }

    /// Where results go.
    pub fn out(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// Where warnings and failures go; what was printed before them is shown first.
    pub fn err(&mut self) -> &mut dyn Write {
        // If stdout is gone, the end of the command says so.
        drop(self.out.flush());
        &mut self.err
    }

    /// Shows what was printed so far.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// `text` in a colour, where colours are shown.
    #[must_use]
    pub fn paint(&self, colour: Colour, text: &str) -> String {
        if !self.is_coloured {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Red => 31,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// Prints a line.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.out, "{}", text.as_ref())
    }

    /// Prints a value for programs, on one line.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        writeln!(self.out)
    }

    /// Prints a value for programs, on as many lines as people like.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn json_indented(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.out, value)?;
        writeln!(self.out)
    }

    /// Says what is going on, to the person who waits and not to the reader of the result.
    pub fn note(&mut self, text: &str) {
        // When stderr is gone there is nobody left to tell; the exit code says it too.
        drop(writeln!(self.err(), "{text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{captured, closed};

    #[test]
    fn results_are_seen_before_what_is_said_about_them() {
        let (mut console, seen) = captured();
        console.line("a result").unwrap();
        console.note("a note");
        assert_eq!((seen.out().as_str(), seen.err().as_str()), ("a result\n", "a note\n"));
    }

    #[test]
    fn json_is_one_line_or_many() {
        let (mut console, seen) = captured();
        console.json(&[1, 2]).unwrap();
        console.json_indented(&[1]).unwrap();
        assert_eq!(seen.out(), "[1,2]\n[\n  1\n]\n");
    }

    #[test]
    fn colours_are_for_terminals() {
        let (console, _) = captured();
        assert_eq!(console.paint(Colour::Red, "bad"), "bad");
        let terminal = Console { is_coloured: true, ..Console::new(io::sink(), io::sink()) };
        assert_eq!(terminal.paint(Colour::Red, "bad"), "\u{1b}[31mbad\u{1b}[0m");
    }

    #[test]
    fn a_reader_that_went_away_is_an_error_of_the_result_alone() {
        let (mut console, seen) = closed();
        console.line("nobody reads it").unwrap();
        console.note("somebody hears it");
        assert_eq!(console.flush().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(seen.err(), "somebody hears it\n");
        console.silence();
        console.line("nobody wants it").unwrap();
        console.flush().unwrap();
    }
}
