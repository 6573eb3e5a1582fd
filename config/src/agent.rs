//! The settings of `svidecar-agent`. Where SPIRE has a key, the key and its default are SPIRE's, but for places under `/tmp`.

mod docker;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_document::problems::Problems;
use svidecar_id::TrustDomain;

pub use docker::{DockerAttestorSettings, EngineSocket, SocketTemplate};

use crate::{
    address::{Address, ListenAddress, OptionalListenAddress, check_socket_path},
    log::LogSettings,
    place,
    secret::Secret,
    server::{HealthSettings, KeyType, SPIRE_KEYS},
    settings::Settings,
    text::trust_domain_schema,
    units::{ByteSize, HumanDuration},
};

/// Settings of `svidecar-agent`, which serves the workloads of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSettings {
    /// DNS name or IP address of the server.
    pub server_address: String,
    /// TCP port of the server.
    #[serde(default = "default_server_port")]
    pub server_port: u16,
    /// The trust domain of the server and of this agent.
    #[schemars(schema_with = "trust_domain_schema")]
    pub trust_domain: TrustDomain,
    /// Directory of the agent's key, SVID, bundle and cache; made with mode 0700 when it is missing. The default of
    /// users other than root is `$XDG_STATE_HOME/svidecar/agent`.
    #[serde(default = "place::agent_data")]
    #[schemars(default = "documented_data_dir")]
    pub data_dir: PathBuf,
    /// Unix socket of the Workload API, open to every process of the node. The default of users other than root is
    /// `$XDG_RUNTIME_DIR/svidecar/api.sock`.
    #[serde(default = "place::workload_socket")]
    #[schemars(default = "documented_socket_path")]
    pub socket_path: PathBuf,
    /// The Workload API on TCP as well. Loopback only: a caller is found by its local port.
    #[serde(default)]
    pub tcp_listen: OptionalListenAddress,
    /// Unix socket for `why` and for details of health, mode 0600. Default: `admin.sock` in `data_dir`.
    #[serde(default)]
    pub admin_socket_path: Option<PathBuf>,
    /// Token of the first contact, `TOKEN.HASH` as `svidecar-server token generate` prints it, or SPIRE's bare
    /// token. Not needed once the agent has its SVID.
    #[serde(default)]
    pub join_token: Option<Secret>,
    /// File that holds the token of the first contact.
    #[serde(default)]
    pub join_token_file: Option<PathBuf>,
    /// File with the server's bundle, for a first contact without a hash in the token.
    #[serde(default)]
    pub trust_bundle_path: Option<PathBuf>,
    /// `https://` address of the server's bundle, for a first contact without a hash in the token.
    #[serde(default)]
    pub trust_bundle_url: Option<String>,
    /// Format of the bundle at `trust_bundle_path` or `trust_bundle_url`.
    #[serde(default)]
    pub trust_bundle_format: BundleFormat,
    /// Trust whoever answers at the first contact. For trials only.
    #[serde(default)]
    pub insecure_bootstrap: bool,
    /// Kind of the keys of workloads' X.509-SVIDs.
    #[serde(default)]
    pub workload_x509_svid_key_type: KeyType,
    /// What the agent looks at in a process.
    #[serde(default)]
    pub unix: UnixAttestorSettings,
    /// What the agent asks about a caller's container.
    #[serde(default)]
    pub docker: DockerAttestorSettings,
    /// How long a caller without an identity waits while the server is asked whether there is a new entry.
    /// `0s` answers at once.
    #[serde(default = "default_miss_lookup_timeout")]
    pub miss_lookup_timeout: HumanDuration,
    /// Let processes without an identity fetch bundles and validate JWT-SVIDs.
    #[serde(default)]
    pub allow_unauthenticated_verifiers: bool,
    /// How often the server is asked for changes, if it cannot push them.
    #[serde(default = "default_sync_interval")]
    pub sync_interval: HumanDuration,
    /// How long the command of `run -- COMMAND` may take to end when the agent cannot go on; then it is killed.
    #[serde(default = "default_command_stop_timeout")]
    pub command_stop_timeout: HumanDuration,
    /// Logging.
    #[serde(default)]
    pub log: LogSettings,
    /// Health and metrics over HTTP.
    #[serde(default)]
    pub health: HealthSettings,
}

/// What the unix attestor looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UnixAttestorSettings {
    /// Find the program of a caller, for the selectors `unix:path` and `unix:sha256`.
    pub discover_workload_path: bool,
    /// Largest program that is hashed; a caller with a larger one has no `unix:sha256`. `0` for no limit.
    pub workload_size_limit: ByteSize,
}

impl Default for UnixAttestorSettings {
    fn default() -> Self {
        Self { discover_workload_path: true, workload_size_limit: ByteSize::from_bytes(64 << 20) }
    }
}

/// Format of a bundle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BundleFormat {
    /// Certificates in PEM.
    #[default]
    Pem,
    /// A SPIFFE bundle document (JWKS).
    Spiffe,
}

const fn default_server_port() -> u16 {
    8081
}

fn documented_data_dir() -> PathBuf {
    place::AGENT_DATA.into()
}

fn documented_socket_path() -> PathBuf {
    place::WORKLOAD_SOCKET.into()
}

const fn default_miss_lookup_timeout() -> HumanDuration {
    HumanDuration::from_secs(3)
}

const fn default_sync_interval() -> HumanDuration {
    HumanDuration::from_secs(5)
}

const fn default_command_stop_timeout() -> HumanDuration {
    HumanDuration::from_secs(60)
}

impl AgentSettings {
    /// The defaults, with the settings that have none.
    #[must_use]
    pub fn new(
        trust_domain: TrustDomain,
        server_address: impl Into<String>,
        data_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            server_address: server_address.into(),
            server_port: default_server_port(),
            trust_domain,
            data_dir: data_dir.into(),
            socket_path: place::workload_socket(),
            tcp_listen: OptionalListenAddress::Off,
            admin_socket_path: None,
            join_token: None,
            join_token_file: None,
            trust_bundle_path: None,
            trust_bundle_url: None,
            trust_bundle_format: BundleFormat::default(),
            insecure_bootstrap: false,
            workload_x509_svid_key_type: KeyType::default(),
            unix: UnixAttestorSettings::default(),
            docker: DockerAttestorSettings::default(),
            miss_lookup_timeout: default_miss_lookup_timeout(),
            allow_unauthenticated_verifiers: false,
            sync_interval: default_sync_interval(),
            command_stop_timeout: default_command_stop_timeout(),
            log: LogSettings::default(),
            health: HealthSettings::default(),
        }
    }

    /// The socket of `why` and of details of health.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.admin_socket_path.clone().unwrap_or_else(|| self.data_dir.join("admin.sock"))
    }

    /// Two answers to the question of the first contact would make one of them silently ignored.
    fn check_bootstrap(&self, problems: &mut Problems) {
        if self.join_token.is_some() && self.join_token_file.is_some() {
            problems.add("join_token_file", "`join_token` is set as well; keep one of them");
        }
        if self.join_token.as_ref().is_some_and(|token| token.expose().trim().is_empty()) {
            problems.add_with_help("join_token", "it is empty", "`svidecar-server token generate` makes one");
        }
        let trusts = [
            ("trust_bundle_path", self.trust_bundle_path.is_some()),
            ("trust_bundle_url", self.trust_bundle_url.is_some()),
            ("insecure_bootstrap", self.insecure_bootstrap),
        ];
        let mut given = trusts.into_iter().filter(|(_, given)| *given).map(|(key, _)| key);
        if let Some(first) = given.next() {
            for other in given {
                problems.add(other, format!("`{first}` is set as well; keep one of them"));
            }
        }
        if let Some(url) = self.trust_bundle_url.as_deref().filter(|url| !url.starts_with("https://")) {
            problems.add(
                "trust_bundle_url",
                format!("expected an address that begins with `https://`, found `{url}`"),
            );
        }
    }

    fn check_sockets(&self, problems: &mut Problems) {
        check_socket_path("socket_path", &self.socket_path, problems);
        check_socket_path("admin_socket_path", &self.admin_socket(), problems);
        if self.socket_path == self.admin_socket() {
            problems
                .add("admin_socket_path", "it is the socket of the Workload API, which everyone may open");
        }
        match self.tcp_listen.address() {
            Some(address @ ListenAddress::Unix(_)) => {
                problems.add("tcp_listen", format!("expected an IP address and a port, found {address}"));
            }
            Some(address) if !address.is_local() => problems.add(
                "tcp_listen",
                format!(
                    "{address} can be reached from other machines, whose processes nobody here can attest"
                ),
            ),
            _ => {}
        }
    }
}

impl Settings for AgentSettings {
    const PROGRAM: &'static str = "svidecar-agent";

    fn validate(&self, problems: &mut Problems) {
        let server = match self.server_address.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, self.server_port).to_string(),
            Err(_) => format!("{}:{}", self.server_address, self.server_port),
        };
        if self.server_address.is_empty() || server.parse::<Address>().is_err() {
            let message = format!("`{}` is neither a DNS name nor an IP address", self.server_address);
            problems.add("server_address", message);
        }
        if self.server_port == 0 {
            problems.add("server_port", "nothing can be reached at port 0");
        }
        self.check_bootstrap(problems);
        self.check_sockets(problems);
        if self.sync_interval.is_zero() {
            problems.add("sync_interval", "expected more than 0s");
        }
        self.docker.validate(problems);
    }

    fn foreign_keys() -> &'static [(&'static str, &'static str)] {
        SPIRE_KEYS
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::settings::wrong_keys;

    fn problems(change: impl FnOnce(&mut AgentSettings)) -> Vec<String> {
        let mut settings = AgentSettings::new("demo.org".parse().unwrap(), "localhost", "/d");
        change(&mut settings);
        wrong_keys(&settings)
    }

    #[test]
    fn defaults_fit_together() {
        assert_eq!(problems(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn the_server_has_an_address() {
        for (address, fits) in [
            ("10.0.0.1", true),
            ("::1", true),
            ("server.internal", true),
            ("", false),
            ("a b", false),
            ("a:1", false),
        ] {
            assert_eq!(problems(|s| s.server_address = address.into()).is_empty(), fits, "{address}");
        }
        assert_eq!(problems(|s| s.server_port = 0), ["server_port"]);
    }

    #[test]
    fn the_first_contact_has_one_answer() {
        let token = || Some(Secret::from("t".to_owned()));
        assert_eq!(
            problems(|s| (s.join_token, s.insecure_bootstrap) = (token(), true)),
            Vec::<String>::new()
        );
        assert_eq!(
            problems(|s| (s.join_token, s.join_token_file) = (token(), Some("/t".into()))),
            ["join_token_file"]
        );
        assert_eq!(problems(|s| s.join_token = Some(Secret::from(" ".to_owned()))), ["join_token"]);
        assert_eq!(
            problems(|s| {
                s.trust_bundle_path = Some("/b".into());
                s.trust_bundle_url = Some("https://x/b".into());
                s.insecure_bootstrap = true;
            }),
            ["trust_bundle_url", "insecure_bootstrap"]
        );
        assert_eq!(problems(|s| s.trust_bundle_url = Some("http://x/b".into())), ["trust_bundle_url"]);
    }

    #[test]
    fn sockets_are_local_and_apart() {
        assert_eq!(problems(|s| s.tcp_listen = "127.0.0.1:1".parse().unwrap()), Vec::<String>::new());
        assert_eq!(problems(|s| s.tcp_listen = "0.0.0.0:1".parse().unwrap()), ["tcp_listen"]);
        assert_eq!(problems(|s| s.tcp_listen = "unix:/a".parse().unwrap()), ["tcp_listen"]);
        assert_eq!(problems(|s| s.socket_path = "/d/admin.sock".into()), ["admin_socket_path"]);
        assert_eq!(problems(|s| s.sync_interval = HumanDuration::from_secs(0)), ["sync_interval"]);
    }
}
