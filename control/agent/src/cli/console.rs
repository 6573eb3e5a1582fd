//! Where commands print. The only place of the command line that knows stdout and stderr.

use std::io::{self, Write};

use clap::{Args, ValueEnum};

use super::error::CliError;

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Pretty,
    /// For programs: one line of JSON
    Json,
}

/// The flag that chooses the format.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct OutputArgs {
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
}

/// The process's streams.
#[derive(Default)]
pub struct Console {
    /// `-silent`: nothing goes to stdout.
    pub silent: bool,
}

impl Console {
    /// Prints JSON on one line.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn json(&mut self, value: &serde_json::Value) -> Result<(), CliError> {
        Ok(writeln!(self, "{value}")?)
    }

    /// Says why a command failed. A reader that went away (`| head`) has seen what it wanted.
    pub fn report(&mut self, error: &CliError) {
        if !error.is_broken_pipe() && !matches!(error, CliError::Logged) {
            // When stderr is gone there is nobody left to tell; the exit code says it too.
            let _ = writeln!(io::stderr().lock(), "{error}");
        }
    }

    /// Says something beside the result.
    ///
    /// # Errors
    /// When stderr cannot be written.
    pub fn note(&mut self, text: &str) -> Result<(), CliError> {
        Ok(writeln!(io::stderr().lock(), "{text}")?)
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.silent { Ok(bytes.len()) } else { io::stdout().lock().write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().lock().flush()
    }
}
