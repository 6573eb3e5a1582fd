//! Where commands print. The only place of the command line that knows stdout and stderr.

use std::io::{self, IsTerminal as _, Write};

use clap::{Args, ValueEnum};
use prost::Message;

use super::{
    error::CliError,
    json::{self, Described},
};

/// The two streams of a command.
pub(super) struct Console<'w> {
    out: &'w mut dyn Write,
    err: &'w mut dyn Write,
    colour: bool,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Pretty,
    /// For programs: one line of JSON
    Json,
}

/// The flag that chooses the format.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(super) struct OutputArgs {
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub(super) output: Format,
}

/// The colours of a diff.
#[derive(Clone, Copy, Debug)]
pub(super) enum Colour {
    Green,
    Yellow,
    Red,
}

impl<'w> Console<'w> {
    /// The process's own streams; colour only on a terminal, and not under `NO_COLOR`.
    pub(super) fn of_process(out: &'w mut dyn Write, err: &'w mut dyn Write) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { out, err, colour: wanted && io::stdout().is_terminal() }
    }

    #[cfg(test)]
    pub(super) fn of_buffers(out: &'w mut Vec<u8>, err: &'w mut Vec<u8>) -> Self {
        Self { out, err, colour: false }
    }

    pub(super) fn out(&mut self) -> &mut dyn Write {
        self.out
    }

    /// Where warnings and failures go; what was printed before them is shown first.
    pub(super) fn err(&mut self) -> &mut dyn Write {
        // If stdout is gone, the end of the command says so.
        drop(self.out.flush());
        self.err
    }

    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        Ok(self.out.flush()?)
    }

    /// `text` in a colour, where colours are shown.
    pub(super) fn paint(&self, colour: Colour, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Red => 31,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// Prints a message: as JSON, or by `pretty`.
    pub(super) fn print<M: Message + Described>(
        &mut self,
        output: OutputArgs,
        message: &M,
        pretty: impl FnOnce(&M, &mut Self) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        match output.output {
            Format::Pretty => pretty(message, self),
            Format::Json => self.print_json(&json::of_message(message)?),
        }
    }

    pub(super) fn print_json(&mut self, value: &serde_json::Value) -> Result<(), CliError> {
        Ok(writeln!(self.out, "{value}")?)
    }

    /// Says why a command failed.
    pub(super) fn report(&mut self, error: &CliError) {
        // When stderr is gone there is nobody left to tell; the exit code says it too.
        let code = error.code().map(|code| format!(" ({code})")).unwrap_or_default();
        drop(writeln!(self.err(), "Error{code}: {error}"));
    }
}
