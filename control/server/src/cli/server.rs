//! The commands about the settings: `run`, `validate`, `config`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;
use svidecar_config::server::ServerSettings;
use svidecar_process::{
    Console, descriptors, log,
    settings::{self, LogArgs, SettingsArgs as _},
};

use super::error::CliError;
use crate::run;

/// Where settings come from: flags win over variables (`SVIDECAR_SERVER_LOG__LEVEL`), and those over the file.
#[derive(Args, Debug, Default)]
pub(super) struct SettingsArgs {
    /// The configuration file, YAML
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The trust domain that this server is the authority of
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<String>,
    /// Directory of the database and of the keys
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// IP address that agents connect to
    #[arg(long, value_name = "IP")]
    bind_address: Option<String>,
    /// TCP port that agents connect to
    #[arg(long, value_name = "PORT")]
    server_port: Option<u16>,
    /// Unix socket for administration
    #[arg(long, value_name = "PATH")]
    socket_path: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

impl settings::SettingsArgs for SettingsArgs {
    type Settings = ServerSettings;

    const PREFIX: &'static str = "SVIDECAR_SERVER";

    fn file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    fn flags(&self) -> Vec<(&'static str, Value)> {
        let mut flags = vec![
            ("trust_domain", self.trust_domain.clone().into()),
            ("data_dir", self.data_dir.clone().into()),
            ("bind_address", self.bind_address.clone().into()),
            ("bind_port", self.server_port.into()),
            ("socket_path", self.socket_path.clone().into()),
        ];
        flags.extend(self.log.flags());
        flags
    }
}

impl SettingsArgs {
    /// Reads the settings, with what only the running parts know checked as well.
    fn load_checked(&self) -> Result<ServerSettings, CliError> {
        let loaded = self.load()?;
        loaded.check(run::check)?;
        Ok(loaded.value)
    }
}

/// Runs the server until it is told to stop.
pub(super) fn run(args: &SettingsArgs) -> Result<(), CliError> {
    let settings = args.load_checked()?;
    let _log = log::init(&settings.log)?;
    descriptors::raise();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::Runtime)?;
    Ok(runtime.block_on(run::run(settings))?)
}

/// Does what `run` does before it starts anything.
pub(super) fn validate(args: &SettingsArgs, console: &mut Console) -> Result<(), CliError> {
    args.load_checked()?;
    Ok(console.line("The configuration of svidecar-server is valid.")?)
}

#[cfg(test)]
mod tests {
    use svidecar_config::load::Origin;

    use super::*;

    #[test]
    fn flags_are_settings_under_their_keys() {
        let args = SettingsArgs {
            server_port: Some(9999),
            log: LogArgs { log_level: Some("DEBUG".to_owned()), ..LogArgs::default() },
            trust_domain: Some("demo.org".to_owned()),
            data_dir: Some("/var/lib/x".to_owned()),
            ..SettingsArgs::default()
        };
        let loaded = args.load().unwrap();
        assert_eq!(loaded.value.bind_port, 9999);
        assert_eq!(loaded.value.log.level.as_str(), "debug");
        assert_eq!(loaded.origin("trust_domain"), Origin::CommandLine);
        assert_eq!(loaded.origin("ca_ttl"), Origin::Default);
    }

    #[test]
    fn lifetimes_that_the_ca_cannot_honour_are_placed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.yaml");
        std::fs::write(&file, "trust_domain: demo.org\ndata_dir: /d\ndefault_x509_svid_ttl: 12h\n").unwrap();
        let args = SettingsArgs { config: Some(file.clone()), ..SettingsArgs::default() };
        let error = args.load_checked().unwrap_err().to_string();
        assert!(
            error.contains(&format!("{}:3:24: `default_x509_svid_ttl` is 12h", file.display())),
            "{error}"
        );
        assert!(error.contains("at most 4h"), "{error}");
    }
}
