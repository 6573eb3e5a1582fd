//! The commands about the settings: `run`, `validate`, `config show`, `config schema`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;
use svidecar_config::{
    load::{Loaded, Loader, Origin, process_environment},
    log,
    server::ServerSettings,
    show,
};
use svidecar_process::console::{Format, OutputArgs};

use super::{CliError, Console};
use crate::run;

/// What variables of the environment begin with.
const PREFIX: &str = "SVIDECAR_SERVER";

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Prints every setting with its value and where it comes from
    Show(ShowArgs),
    /// Prints the JSON Schema of the configuration file, for editors
    Schema,
}

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Also the settings that nobody set
    #[arg(long)]
    effective: bool,
    #[command(flatten)]
    output: OutputArgs,
}

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
    /// Least important level that is logged
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How logs are written: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl SettingsArgs {
    fn loader(&self) -> Loader<ServerSettings> {
        let loader = Loader::new(PREFIX).env(process_environment()).flags(self.flags());
        match &self.config {
            Some(file) => loader.file(file),
            None => loader,
        }
    }

    fn load(&self) -> Result<Loaded<ServerSettings>, CliError> {
        Ok(self.loader().load()?)
    }

    /// As [`Self::load`], with what only the running parts know checked as well.
    fn load_checked(&self) -> Result<ServerSettings, CliError> {
        let loaded = self.load()?;
        loaded.check(run::check)?;
        Ok(loaded.value)
    }

    fn flags(&self) -> Vec<(String, Value)> {
        let given = |value: &Option<String>| value.clone().map_or(Value::Null, Value::String);
        // SPIRE's levels are in capitals.
        let lower =
            |value: &Option<String>| value.as_ref().map_or(Value::Null, |value| value.to_lowercase().into());
        [
            ("trust_domain", given(&self.trust_domain)),
            ("data_dir", given(&self.data_dir)),
            ("bind_address", given(&self.bind_address)),
            ("bind_port", self.server_port.map_or(Value::Null, Value::from)),
            ("socket_path", given(&self.socket_path)),
            ("log.level", lower(&self.log_level)),
            ("log.format", lower(&self.log_format)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }
}

/// Runs the server until it is told to stop.
pub(super) fn run(args: &SettingsArgs) -> Result<(), CliError> {
    let settings = args.load_checked()?;
    log::init(&settings.log)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::Runtime)?;
    Ok(runtime.block_on(run::run(settings))?)
}

/// Does what `run` does before it starts anything.
pub(super) fn validate(args: &SettingsArgs, console: &mut Console) -> Result<(), CliError> {
    args.load_checked()?;
    Ok(writeln!(console.out(), "The configuration of svidecar-server is valid.")?)
}

pub(super) fn config(command: &ConfigCommand, console: &mut Console) -> Result<(), CliError> {
    match command {
        ConfigCommand::Schema => Ok(show::write_schema::<ServerSettings>(&mut console.out())?),
        ConfigCommand::Show(args) => {
            let mut settings = args.settings.load()?.effective();
            if !args.effective {
                settings.retain(|setting| setting.origin != Origin::Default);
            }
            match args.output.output {
                Format::Pretty => show::write_text(&settings, &mut console.out())?,
                Format::Json => show::write_json(&settings, &mut console.out())?,
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_settings_under_their_keys() {
        let args = SettingsArgs {
            server_port: Some(9999),
            log_level: Some("DEBUG".to_owned()),
            trust_domain: Some("demo.org".to_owned()),
            data_dir: Some("/var/lib/x".to_owned()),
            ..SettingsArgs::default()
        };
        let loaded = Loader::<ServerSettings>::new(PREFIX).flags(args.flags()).load().unwrap();
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
