//! The root of a command line: from words to an exit code.
//!
//! Owns what is the same for every command: SPIRE's spelling, wrong usage, what a failure looks like and that a reader
//! that went away is a failure and no panic. It must never know a command.

use std::{ffi::OsString, io, process::ExitCode};

use clap::{Args, Parser, error::ErrorKind};
use clap_complete::Shell;
use svidecar_code::Code;
use tokio::runtime::{Builder, Runtime};

use crate::{args, console::Console, log};

/// The command line of a program.
pub trait CommandLine: Parser {
    /// Why a command failed. What cannot be printed is a failure too.
    type Error: Failure + From<io::Error>;

    /// The exit code of a command line that is none.
    const WRONG_USAGE: u8 = 1;

    /// The failure of a command that takes another one behind `--`, if this is one: for when there is nothing behind it.
    fn without_command(&self) -> Option<Self::Error> {
        None
    }

    /// Does what is asked.
    ///
    /// # Errors
    /// When it could not be done.
    fn execute(self, console: &mut Console) -> Result<ExitCode, Self::Error>;
}

/// Why a command failed.
pub trait Failure: std::fmt::Display {
    /// The stable name, where it has one.
    fn code(&self) -> Option<Code> {
        None
    }

    /// What the process ends with.
    fn exit_code(&self) -> ExitCode {
        ExitCode::FAILURE
    }

    /// What the system says, if this is that the result could not be printed.
    fn unprinted(&self) -> Option<&io::Error>;

    /// What is said on stderr; nothing if it has been said already.
    fn said(&self) -> Option<String> {
        let code = self.code().map(|code| format!(" ({code})")).unwrap_or_default();
        Some(format!("Error{code}: {self}"))
    }
}

/// Runs the command that `arguments` (the program's name first) ask for, on the streams of the process.
pub fn main<C: CommandLine>(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    run::<C>(arguments, &mut Console::of_process())
}

/// As [`main`], on any streams.
pub fn run<C: CommandLine>(arguments: impl IntoIterator<Item = OsString>, console: &mut Console) -> ExitCode {
    let arguments = args::normalize(arguments);
    let is_cut_short = args::ends_with_separator(&arguments);
    let line = match C::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) => return usage::<C>(&error),
    };
    let outcome = match line.without_command().filter(|_| is_cut_short) {
        Some(error) => Err(error),
        None => line.execute(console),
    };
    finish(outcome, console)
}

/// Help and version go to stdout and are no failure; the rest is the user's mistake.
fn usage<C: CommandLine>(error: &clap::Error) -> ExitCode {
    let is_printed = error.print().is_ok();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion if is_printed => ExitCode::SUCCESS,
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::FAILURE,
        _ => ExitCode::from(C::WRONG_USAGE),
    }
}

fn finish<E: Failure + From<io::Error>>(outcome: Result<ExitCode, E>, console: &mut Console) -> ExitCode {
    let printed = console.flush().map_err(E::from);
    let (code, error) = match (outcome, printed) {
        (Ok(code), Ok(())) => return code,
        (Ok(ExitCode::SUCCESS), Err(error)) | (Err(error), _) => (error.exit_code(), error),
        // What was found is so, whether it was read or not.
        (Ok(code), Err(error)) => (code, error),
    };
    // A reader that went away (`| head`) has seen what it wanted; nobody is left to be told.
    let is_unread = error.unprinted().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
    // What was logged waits for a reader of the same stream; who waited with it would never end.
    if let Some(said) = error.said().filter(|_| !is_unread && !log::is_stuck()) {
        console.note(&said);
    }
    code
}

/// What a command that asks somebody over a socket runs on.
///
/// # Errors
/// What the system says.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// `completions`
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints the completion script of a command line.
    ///
    /// # Errors
    /// When it cannot be printed.
    pub fn print<C: CommandLine>(&self, console: &mut Console) -> io::Result<()> {
        let mut command = C::command();
        let name = command.get_name().to_owned();
        // Into memory first: the generator panics where it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        console.out().write_all(&script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{captured, closed};

    #[derive(Debug, thiserror::Error)]
    enum ToolError {
        #[error("cannot print: {0}")]
        Print(#[from] io::Error),
        #[error("there is no command")]
        NoCommand,
        #[error("it is in the log")]
        Logged,
    }

    impl Failure for ToolError {
        fn code(&self) -> Option<Code> {
            matches!(self, Self::NoCommand).then_some(Code::NoCommand)
        }

        fn exit_code(&self) -> ExitCode {
            ExitCode::from(match self {
                Self::NoCommand => 64,
                _ => 1,
            })
        }

        fn unprinted(&self) -> Option<&io::Error> {
            match self {
                Self::Print(error) => Some(error),
                _ => None,
            }
        }

        fn said(&self) -> Option<String> {
            match self {
                Self::Logged => None,
                other => Some(format!("{other}!")),
            }
        }
    }

    #[derive(Debug, Parser)]
    #[command(name = "tool", version)]
    enum Tool {
        Run {
            #[arg(last = true)]
            command: Vec<OsString>,
        },
        Answer {
            code: u8,
        },
        Log,
        Completions(CompletionsArgs),
    }

    impl CommandLine for Tool {
        type Error = ToolError;

        const WRONG_USAGE: u8 = 64;

        fn without_command(&self) -> Option<ToolError> {
            matches!(self, Self::Run { .. }).then_some(ToolError::NoCommand)
        }

        fn execute(self, console: &mut Console) -> Result<ExitCode, ToolError> {
            match self {
                Self::Run { command } => console.line(format!("runs {command:?}"))?,
                Self::Answer { code } => {
                    console.line(format!("the answer is {code}"))?;
                    return Ok(ExitCode::from(code));
                }
                Self::Log => return Err(ToolError::Logged),
                Self::Completions(args) => args.print::<Self>(console)?,
            }
            Ok(ExitCode::SUCCESS)
        }
    }

    fn words(line: &str) -> impl Iterator<Item = OsString> {
        line.split(' ').map(OsString::from)
    }

    fn seen(line: &str) -> (String, String, ExitCode) {
        let (mut console, seen) = captured();
        let code = run::<Tool>(words(line), &mut console);
        (seen.out(), seen.err(), code)
    }

    /// What is said, and the exit code, when nobody reads the result.
    fn unread(line: &str) -> (String, ExitCode) {
        let (mut console, seen) = closed();
        let code = run::<Tool>(words(line), &mut console);
        (seen.err(), code)
    }

    #[test]
    fn an_answer_is_printed_and_is_the_exit_code() {
        assert_eq!(seen("tool answer 7"), ("the answer is 7\n".into(), String::new(), ExitCode::from(7)));
        assert_eq!(seen("tool run").0, "runs []\n");
    }

    #[test]
    fn two_dashes_announce_a_command() {
        let (out, err, code) = seen("tool run --");
        assert_eq!((out.as_str(), err.as_str()), ("", "there is no command!\n"));
        assert_eq!(code, ExitCode::from(64));
        assert_eq!(seen("tool run -- app").0, "runs [\"app\"]\n");
    }

    #[test]
    fn wrong_usage_has_an_exit_code_of_its_own() {
        assert_eq!(seen("tool nonsense").2, ExitCode::from(64));
        assert_eq!(seen("tool --version").2, ExitCode::SUCCESS);
    }

    #[test]
    fn what_is_in_the_log_is_not_said_again() {
        assert_eq!(seen("tool log"), (String::new(), String::new(), ExitCode::FAILURE));
    }

    #[test]
    fn a_reader_that_went_away_is_told_nothing_and_the_exit_code_says_it() {
        assert_eq!(unread("tool completions bash"), (String::new(), ExitCode::FAILURE));
        assert_eq!(unread("tool answer 0"), (String::new(), ExitCode::FAILURE));
        assert_eq!(unread("tool answer 7"), (String::new(), ExitCode::from(7)));
    }
}
