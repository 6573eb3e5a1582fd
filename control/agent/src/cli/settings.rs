//! `run`, `validate`, `config`: the commands that read the settings.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde_json::Value;
use svidecar_config::{agent::AgentSettings, place};
use svidecar_process::{
    Console, descriptors, log,
    settings::{self, LogArgs, SettingsArgs as _},
};

use super::error::CliError;
use crate::{attest::turns::AT_ONCE, run};

/// Threads for what blocks, beside those in which callers are attested: finding the callers over TCP, and our own files.
const OTHER_BLOCKING_THREADS: usize = 32;

/// The file of the settings, and SPIRE's flags over it. Every flag is a key of the file too.
#[derive(Args, Debug, Default)]
pub struct SettingsArgs {
    /// The file of the settings (YAML)
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the agent keeps its key, SVID and cache
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// DNS name or IP address of the server
    #[arg(long, value_name = "HOST")]
    server_address: Option<String>,
    /// TCP port of the server
    #[arg(long, value_name = "PORT")]
    server_port: Option<u16>,
    /// The trust domain
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<String>,
    /// The token of the first contact, TOKEN or TOKEN.HASH
    #[arg(long, value_name = "TOKEN")]
    join_token: Option<String>,
    /// A file with that token
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<String>,
    /// A file with the server's bundle, for the first contact
    #[arg(long, value_name = "FILE")]
    trust_bundle: Option<String>,
    /// An https address of the server's bundle, for the first contact
    #[arg(long, value_name = "URL")]
    trust_bundle_url: Option<String>,
    /// The format of that bundle: pem or spiffe
    #[arg(long, value_name = "FORMAT")]
    trust_bundle_format: Option<String>,
    /// Take whoever answers first for the server
    #[arg(long)]
    insecure_bootstrap: bool,
    /// Let processes without an identity fetch bundles and validate JWT-SVIDs
    #[arg(long)]
    allow_unauthenticated_verifiers: bool,
    /// The Workload API's Unix socket
    #[arg(long, value_name = "PATH")]
    socket_path: Option<String>,
    /// The operator's Unix socket
    #[arg(long, value_name = "PATH")]
    admin_socket_path: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

/// `run …`
#[derive(Args, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Started once the Workload API is there, with its address in SPIFFE_ENDPOINT_SOCKET; gets our signals, and its exit
    /// code is ours
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl settings::SettingsArgs for SettingsArgs {
    type Settings = AgentSettings;

    const PREFIX: &'static str = "SVIDECAR_AGENT";

    fn file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    fn flags(&self) -> Vec<(&'static str, Value)> {
        let switch = |on: bool| if on { Value::Bool(true) } else { Value::Null };
        let mut flags = vec![
            ("data_dir", self.data_dir.clone().into()),
            ("server_address", self.server_address.clone().into()),
            ("server_port", self.server_port.into()),
            ("trust_domain", self.trust_domain.clone().into()),
            ("join_token", self.join_token.clone().into()),
            ("join_token_file", self.join_token_file.clone().into()),
            ("trust_bundle_path", self.trust_bundle.clone().into()),
            ("trust_bundle_url", self.trust_bundle_url.clone().into()),
            ("trust_bundle_format", self.trust_bundle_format.clone().into()),
            ("insecure_bootstrap", switch(self.insecure_bootstrap)),
            ("allow_unauthenticated_verifiers", switch(self.allow_unauthenticated_verifiers)),
            ("socket_path", self.socket_path.clone().into()),
            ("admin_socket_path", self.admin_socket_path.clone().into()),
        ];
        flags.extend(self.log.flags());
        flags
    }
}

/// `run`; with a command behind `--`, its exit code is ours.
///
/// # Errors
/// When the settings are not right, or the agent cannot go on.
pub fn run(args: RunArgs) -> Result<ExitCode, CliError> {
    let settings = args.settings.load()?.value;
    let _log = log::init(&settings.log)?;
    descriptors::raise();
    if args.settings.join_token.is_some() {
        tracing::warn!(
            "the join token is on the command line, which /proc shows to every user of this machine; give it in a file \
             (--join-token-file) or in the variable SVIDECAR_AGENT_JOIN_TOKEN"
        );
    }
    // Two threads: one process per node must not take a node's cores.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(AT_ONCE + OTHER_BLOCKING_THREADS)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        if args.command.is_empty() {
            run::until_stopped(settings).await.map(|()| 0)
        } else {
            run::wrapper::run(settings, &args.command).await
        }
    });
    // An attestation that hangs in the kernel must not keep the process from ending.
    runtime.shutdown_background();
    outcome.map(ExitCode::from).map_err(|error| {
        tracing::error!(%error, code = error.code().name(), "the agent ends");
        CliError::Logged
    })
}

/// `validate`
///
/// # Errors
/// What `run` would not accept.
pub fn validate(args: &SettingsArgs, console: &mut Console) -> Result<(), CliError> {
    let loaded = args.load()?;
    run::validate(&loaded.value)?;
    let name = loaded.file().map_or_else(|| "The configuration".into(), |file| file.display().to_string());
    Ok(console.line(format!("{name} is valid."))?)
}

/// Which running agent a command is about, by its admin socket.
#[derive(Args, Debug)]
pub struct AdminSocket {
    /// The operator's Unix socket
    #[arg(long, value_name = "PATH", env = "SVIDECAR_AGENT_ADMIN_SOCKET_PATH")]
    admin_socket_path: Option<PathBuf>,
    /// The running agent's data directory, where that socket is by default: /var/lib/svidecar/agent, of users other than
    /// root $XDG_STATE_HOME/svidecar/agent
    #[arg(long, value_name = "DIR", env = "SVIDECAR_AGENT_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// The running agent's settings, which say where the socket is
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl AdminSocket {
    /// Whether anything says where the socket is.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.admin_socket_path.is_some() || self.config.is_some() || self.data_dir.is_some()
    }

    /// Where the socket is.
    ///
    /// # Errors
    /// When the settings that are to say it are not right.
    pub fn path(&self) -> Result<PathBuf, CliError> {
        match (&self.admin_socket_path, &self.config, &self.data_dir) {
            (Some(path), ..) => Ok(path.clone()),
            (None, Some(config), _) => {
                let args = SettingsArgs { config: Some(config.clone()), ..SettingsArgs::default() };
                Ok(args.load()?.value.admin_socket())
            }
            (None, None, Some(data_dir)) => Ok(data_dir.join("admin.sock")),
            (None, None, None) => Ok(place::agent_data().join("admin.sock")),
        }
    }
}
