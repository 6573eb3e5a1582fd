//! What every command line does with settings: names them, reads them, shows them.
//!
//! It knows how flags, file and environment come together, and no setting but those of the log.

use std::{io, path::Path};

use clap::{Args, Subcommand};
use serde_json::Value;
use svidecar_config::{
    diagnostic::Diagnostics,
    load::{Loaded, Loader, Origin, process_environment},
    settings::Settings,
    show,
};

use crate::console::{Console, Format, OutputArgs};

/// The flags that stand for a program's settings. They win over variables, and those over the file.
pub trait SettingsArgs: Args {
    /// The settings.
    type Settings: Settings;

    /// What the names of its variables begin with.
    const PREFIX: &'static str;

    /// The file, if one was named.
    fn file(&self) -> Option<&Path>;

    /// Each flag's key and value; `null` is a flag that was not given.
    fn flags(&self) -> Vec<(&'static str, Value)>;

    /// Reads the settings, again and again if need be.
    fn loader(&self) -> Loader<Self::Settings> {
        let flags = self.flags().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let loader = Loader::new(Self::PREFIX).env(process_environment()).flags(flags);
        match self.file() {
            Some(file) => loader.file(file),
            None => loader,
        }
    }

    /// Reads the settings.
    ///
    /// # Errors
    /// All that is wrong with them.
    fn load(&self) -> Result<Loaded<Self::Settings>, Diagnostics> {
        self.loader().load()
    }
}

/// The settings of the log.
#[derive(Args, Debug, Default)]
pub struct LogArgs {
    /// Least important level that is logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How logs are written: text or json
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

impl LogArgs {
    /// For [`SettingsArgs::flags`].
    #[must_use]
    pub fn flags(&self) -> [(&'static str, Value); 2] {
        // SPIRE's words are in capitals.
        let lower = |value: &Option<String>| value.as_ref().map(|value| value.to_lowercase()).into();
        [("log.level", lower(&self.log_level)), ("log.format", lower(&self.log_format))]
    }
}

/// `config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand<S: Args> {
    /// Prints the settings with their values and where each comes from
    Show(ShowArgs<S>),
    /// Prints the JSON Schema of the configuration file, for editors
    Schema,
}

/// `config show`
#[derive(Args, Debug)]
pub struct ShowArgs<S: Args> {
    #[command(flatten)]
    settings: S,
    /// Also the settings that nobody set
    #[arg(long)]
    effective: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl<S: SettingsArgs> ConfigCommand<S> {
    /// Prints what is asked for.
    ///
    /// # Errors
    /// When the settings are not right, or cannot be printed.
    pub fn run<E: From<Diagnostics> + From<io::Error>>(&self, console: &mut Console) -> Result<(), E> {
        match self {
            Self::Schema => show::write_schema::<S::Settings>(&mut console.out())?,
            Self::Show(args) => {
                let mut settings = args.settings.load()?.effective();
                if !args.effective {
                    settings.retain(|setting| setting.origin != Origin::Default);
                }
                match args.output.output {
                    Format::Pretty => show::write_text(&settings, &mut console.out())?,
                    Format::Json => show::write_json(&settings, &mut console.out())?,
                }
            }
        }
        Ok(())
    }
}
