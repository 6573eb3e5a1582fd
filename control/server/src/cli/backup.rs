//! `backup FILE` and `restore FILE`.
//!
//! `backup` asks a running server, as all other commands do. `restore` is for the day when there is none: it alone writes into
//! `data_dir`, and only while no server uses that.

mod seal;

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use svidecar_api::svidecar::server::v1::CreateBackupRequest;
use svidecar_process::{
    clock,
    console::{Console, Format, OutputArgs},
    settings::SettingsArgs as _,
};
use zeroize::Zeroizing;

use self::seal::Key;
use super::{CliError, ServerSocket, files, server::SettingsArgs, values};
use crate::backup::Backup;

/// Largest backup in bytes.
const MAX_BYTES: usize = 4 << 30;

#[derive(Args, Debug)]
pub(super) struct BackupArgs {
    /// Where the backup is written, with mode 0600
    file: PathBuf,
    /// A file with the passphrase or the random bytes that are needed to open it again
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Args, Debug)]
pub(super) struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// The file with what it was sealed with
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Does it; without this, only what it would do is said
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(super) async fn backup(args: BackupArgs, console: &mut Console) -> Result<(), CliError> {
    let key = args.key_file.as_deref().map(Key::read).transpose()?;
    let mut stream = args.server.backups().await?.create_backup(CreateBackupRequest {}).await?.into_inner();
    let mut bytes = Zeroizing::new(Vec::new());
    while let Some(next) = stream.message().await? {
        let next = Zeroizing::new(next.content);
        if bytes.len() + next.len() > MAX_BYTES {
            return Err(CliError::message(format!("the backup is larger than {MAX_BYTES} bytes")));
        }
        grow(&mut bytes, next.len());
        bytes.extend_from_slice(&next);
    }
    // What cannot be restored is no backup.
    let taken = Backup::read(&bytes)?;
    let sealed = key.map(|key| seal::seal(&bytes, &key)).transpose()?;
    let is_sealed = sealed.is_some();
    files::write(&args.file, 0o600, sealed.as_ref().unwrap_or(&bytes))?;
    if !is_sealed {
        console.note(
            "The keys of the authorities are in this file, and nothing protects them but its mode; --key-file seals it",
        );
    }
    let file = args.file.display();
    match args.output.output {
        Format::Pretty => {
            let time = values::time(taken.taken_at);
            Ok(console.line(format!("Backup of {} as of {time} written to {file}", taken.trust_domain))?)
        }
        Format::Json => Ok(console.json(&json!({
            "file": file.to_string(), "trust_domain": taken.trust_domain.as_str(), "taken_at": taken.taken_at,
            "sealed": is_sealed,
        }))?),
    }
}

pub(super) fn restore(args: &RestoreArgs, console: &mut Console) -> Result<(), CliError> {
    let settings = args.settings.load()?.value;
    let mut bytes = Zeroizing::new(files::read_large(&args.file, MAX_BYTES as u64)?);
    if seal::is_sealed(&bytes) {
        let key = args.key_file.as_deref().ok_or_else(|| {
            CliError::message("this backup is sealed; give the file with its key as --key-file")
        })?;
        bytes = seal::open(&bytes, &Key::read(key)?)?;
    }
    let backup = Backup::read(&bytes)?;
    let (time, home) = (values::time(backup.taken_at), settings.data_dir.display());
    if !args.yes {
        return Err(CliError::message(format!(
            "Puts the database and the keys of {} as of {time} into {home}, and moves aside what is there. Agents that \
             joined since come back by themselves; what else was changed since has to be made again: entries, tokens, bans, \
             evictions.\n  Nothing was done yet; run it again with --yes to do it",
            backup.trust_domain
        )));
    }
    let now = clock::wall().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    let aside = backup.restore(&settings, i64::try_from(now.as_secs()).unwrap_or_default())?;
    match args.output.output {
        Format::Pretty => Ok(console.line(format!(
            "Restored {} as of {time} into {home}; what was there is in {}. Start the server now",
            backup.trust_domain,
            aside.display()
        ))?),
        Format::Json => Ok(console.json(&json!({
            "trust_domain": backup.trust_domain.as_str(), "taken_at": backup.taken_at,
            "moved_aside": aside.display().to_string(),
        }))?),
    }
}

/// Makes room for more, without leaving what is there in memory that is given back.
fn grow(bytes: &mut Zeroizing<Vec<u8>>, more: usize) {
    if bytes.capacity() - bytes.len() < more {
        let mut larger = Zeroizing::new(Vec::with_capacity((bytes.len() + more).max(2 * bytes.capacity())));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
}
