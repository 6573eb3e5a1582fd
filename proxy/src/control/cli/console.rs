//! Where commands print. The only place of the command line that knows stdout and stderr.

use std::io::{self, IsTerminal as _, Write};

use clap::{Args, ValueEnum};

use super::error::CliError;

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// The flag that chooses the format.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(super) struct OutputArgs {
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub(super) output: Format,
}

/// What a word says about success.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mood {
    Good,
    Bad,
}

/// The streams of a command.
pub(super) struct Console {
    out: Box<dyn Write>,
    colour: bool,
}

impl Default for Console {
    /// The process's own streams; colour only on a terminal, and not under `NO_COLOR`.
    fn default() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { out: Box::new(io::stdout()), colour: wanted && io::stdout().is_terminal() }
    }
}

impl Console {
    /// `text`, green or red where colours are shown.
    pub(super) fn paint(&self, mood: Mood, text: &str) -> String {
        let code = match mood {
            Mood::Good => 32,
            Mood::Bad => 31,
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Prints a line.
    pub(super) fn line(&mut self, text: impl AsRef<str>) -> Result<(), CliError> {
        Ok(writeln!(self.out, "{}", text.as_ref())?)
    }

    /// Prints a value for programs.
    pub(super) fn json(&mut self, value: &impl serde::Serialize) -> Result<(), CliError> {
        serde_json::to_writer_pretty(&mut self.out, value).map_err(io::Error::from)?;
        Ok(writeln!(self.out)?)
    }

    /// Says what is going on, to the person who waits and not to the reader of the result.
    pub(super) fn progress(&mut self, text: &str) {
        // When stderr is gone there is nobody left to tell.
        drop(writeln!(io::stderr().lock(), "{text}"));
    }

    /// Says why a command failed.
    pub(super) fn report(&mut self, error: &CliError) {
        if !error.is_broken_pipe() {
            let code = error.code().map(|code| format!(" ({code})")).unwrap_or_default();
            self.progress(&format!("Error{code}: {error}"));
        }
    }

    /// A console whose output can be read by tests.
    #[cfg(test)]
    pub(super) fn captured() -> (Self, std::sync::Arc<std::sync::Mutex<Vec<u8>>>) {
        let buffer = std::sync::Arc::<std::sync::Mutex<Vec<u8>>>::default();
        (Self { out: Box::new(Shared(buffer.clone())), colour: false }, buffer)
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(test)]
impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().map_err(|_| io::ErrorKind::Other)?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
