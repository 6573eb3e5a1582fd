//! Where the policies are that a command is about: files of their own, or those that the settings name.

use std::path::Path;

use svidecar_config::{load::read_text, proxy::InboundSettings};
use svidecar_policy::{Policy, Protocol};
use svidecar_process::settings::SettingsArgs as _;

use crate::control::cli::{error::CliError, settings::SettingsArgs};

/// What a policy is about, by the flag `--tcp`.
pub(super) const fn protocol(tcp: bool) -> Protocol {
    if tcp { Protocol::Tcp } else { Protocol::Http }
}

/// The inbound listeners of the settings; an error when there are none.
pub(super) fn inbound(settings: &SettingsArgs) -> Result<Vec<InboundSettings>, CliError> {
    let loaded = settings.load()?;
    match loaded.file() {
        None => Err(CliError::WhichPolicy(
            "name a policy file, or the proxy's settings with --config FILE".into(),
        )),
        Some(file) if loaded.value.inbound.is_empty() => Err(CliError::NoPolicy(file.to_owned())),
        Some(_) => Ok(loaded.value.inbound),
    }
}

/// Reads a policy without demanding that its tests pass.
pub(super) fn read(file: &Path, protocol: Protocol) -> Result<Policy, CliError> {
    Ok(Policy::parse_untested(&read_text(file)?, file, protocol)?)
}
