//! How an answer of the server is printed: for people by the command, for programs always the same.

use prost::Message;
use svidecar_process::console::{Console, Format, OutputArgs};

use super::{
    error::CliError,
    json::{self, Described},
};

/// Prints a message: as JSON, or by `pretty`.
pub(super) fn print<M: Message + Described>(
    console: &mut Console,
    output: OutputArgs,
    message: &M,
    pretty: impl FnOnce(&M, &mut Console) -> Result<(), CliError>,
) -> Result<(), CliError> {
    match output.output {
        Format::Pretty => pretty(message, console),
        Format::Json => Ok(console.json(&json::of_message(message)?)?),
    }
}
