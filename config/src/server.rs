//! The settings of `svidecar-server`. Where SPIRE has a key, the key and its default are SPIRE's, but for places under `/tmp`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_document::problems::Problems;
use svidecar_id::{SpiffeId, TrustDomain};

use crate::{
    address::{OptionalListenAddress, check_socket_path},
    log::LogSettings,
    place,
    settings::Settings,
    text::{spiffe_ids_schema, trust_domain_schema},
    units::HumanDuration,
};

/// Settings of `svidecar-server`, the authority of one trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// The trust domain that this server is the authority of.
    #[schemars(schema_with = "trust_domain_schema")]
    pub trust_domain: TrustDomain,
    /// Directory of the database and of the keys; made with mode 0700 when it is missing. The default of users other
    /// than root is `$XDG_STATE_HOME/svidecar/server`.
    #[serde(default = "place::server_data")]
    #[schemars(default = "documented_data_dir")]
    pub data_dir: PathBuf,
    /// IP address that agents connect to.
    #[serde(default = "default_bind_address")]
    pub bind_address: IpAddr,
    /// TCP port that agents connect to. Port 0 lets the system pick one.
    #[serde(default = "default_bind_port")]
    pub bind_port: u16,
    /// Unix socket for administration. Whoever may open it is an administrator. The default of users other than root
    /// is `$XDG_RUNTIME_DIR/svidecar/server.sock`.
    #[serde(default = "place::server_socket")]
    #[schemars(default = "documented_socket_path")]
    pub socket_path: PathBuf,
    /// SPIFFE IDs whose holders are administrators over TCP; they may be of a foreign trust domain.
    #[serde(default)]
    #[schemars(schema_with = "spiffe_ids_schema")]
    pub admin_ids: Vec<SpiffeId>,
    /// Lifetime of an agent's SVID. Default: `default_x509_svid_ttl`.
    #[serde(default)]
    pub agent_ttl: Option<HumanDuration>,
    /// How long after the end of its SVID an agent may come back by itself, as after an outage; 0s: not at all.
    #[serde(default = "default_agent_grace")]
    pub agent_grace: HumanDuration,
    /// Lifetime of X.509-SVIDs whose entry names none.
    #[serde(default = "default_x509_svid_ttl")]
    pub default_x509_svid_ttl: HumanDuration,
    /// Lifetime of JWT-SVIDs whose entry names none.
    #[serde(default = "default_jwt_svid_ttl")]
    pub default_jwt_svid_ttl: HumanDuration,
    /// Lifetime of the CA certificate and of the key that signs JWT-SVIDs. SVIDs may live for at most a
    /// sixth of it.
    #[serde(default = "default_ca_ttl")]
    pub ca_ttl: HumanDuration,
    /// Kind of the CA's key.
    #[serde(default)]
    pub ca_key_type: KeyType,
    /// Kind of the key that signs JWT-SVIDs. Default: `ca_key_type`.
    #[serde(default)]
    pub jwt_key_type: Option<KeyType>,
    /// Subject of the CA certificate.
    #[serde(default)]
    pub ca_subject: CaSubject,
    /// The `iss` claim of JWT-SVIDs. Default: no such claim.
    #[serde(default)]
    pub jwt_issuer: Option<String>,
    /// Issue no JWT-SVIDs and publish no keys for them.
    #[serde(default)]
    pub disable_jwt_svids: bool,
    /// Logging.
    #[serde(default)]
    pub log: LogSettings,
    /// Health and metrics over HTTP.
    #[serde(default)]
    pub health: HealthSettings,
    /// Protection of the server from its agents.
    #[serde(default)]
    pub ratelimit: RateLimitSettings,
}

/// Kind of a private key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyType {
    /// ECDSA on P-256.
    #[default]
    #[serde(rename = "ec-p256")]
    EcP256,
    /// ECDSA on P-384.
    #[serde(rename = "ec-p384")]
    EcP384,
    /// RSA with 2048 bits.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA with 4096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

/// Subject of the CA certificate; a serial number attribute is added to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CaSubject {
    /// Countries (C), two letters each.
    pub country: Vec<String>,
    /// Organizations (O).
    pub organization: Vec<String>,
    /// Common name (CN); empty for none.
    pub common_name: String,
}

impl CaSubject {
    /// Upper bounds of X.520 attributes (RFC 5280, appendix A.1).
    fn validate(&self, problems: &mut Problems) {
        for (index, country) in self.country.iter().enumerate() {
            if country.len() != 2 || !country.bytes().all(|b| b.is_ascii_alphabetic()) {
                let message = format!("`{country}` is not a country code of two letters");
                problems.add(format!("ca_subject.country[{index}]"), message);
            }
        }
        for (index, organization) in self.organization.iter().enumerate() {
            if !(1..=64).contains(&organization.chars().count()) {
                problems.add(format!("ca_subject.organization[{index}]"), "expected 1 to 64 characters");
            }
        }
        if self.common_name.chars().count() > 64 {
            problems.add("ca_subject.common_name", "expected at most 64 characters");
        }
    }
}

impl Default for CaSubject {
    fn default() -> Self {
        Self {
            country: vec!["US".to_owned()],
            organization: vec!["SPIFFE".to_owned()],
            common_name: String::new(),
        }
    }
}

/// Health and metrics over HTTP: `/live`, `/ready` and `/metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthSettings {
    /// Where `/live`, `/ready` and `/metrics` are served, in plain HTTP; `off` for nowhere.
    pub listen: OptionalListenAddress,
}

/// Which calls are limited in rate, per caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimitSettings {
    /// Limit attempts to attest.
    pub attestation: bool,
    /// Limit requests to sign.
    pub signing: bool,
}

impl Default for RateLimitSettings {
    fn default() -> Self {
        Self { attestation: true, signing: true }
    }
}

const fn default_bind_address() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

const fn default_bind_port() -> u16 {
    8081
}

fn documented_data_dir() -> PathBuf {
    place::SERVER_DATA.into()
}

fn documented_socket_path() -> PathBuf {
    place::SERVER_SOCKET.into()
}

const fn default_agent_grace() -> HumanDuration {
    HumanDuration::from_secs(7 * 24 * 3600)
}

const fn default_x509_svid_ttl() -> HumanDuration {
    HumanDuration::from_secs(3600)
}

const fn default_jwt_svid_ttl() -> HumanDuration {
    HumanDuration::from_secs(5 * 60)
}

const fn default_ca_ttl() -> HumanDuration {
    HumanDuration::from_secs(24 * 3600)
}

impl ServerSettings {
    /// The defaults, with the two settings that have none.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            trust_domain,
            data_dir: data_dir.into(),
            bind_address: default_bind_address(),
            bind_port: default_bind_port(),
            socket_path: place::server_socket(),
            admin_ids: Vec::new(),
            agent_ttl: None,
            agent_grace: default_agent_grace(),
            default_x509_svid_ttl: default_x509_svid_ttl(),
            default_jwt_svid_ttl: default_jwt_svid_ttl(),
            ca_ttl: default_ca_ttl(),
            ca_key_type: KeyType::default(),
            jwt_key_type: None,
            ca_subject: CaSubject::default(),
            jwt_issuer: None,
            disable_jwt_svids: false,
            log: LogSettings::default(),
            health: HealthSettings::default(),
            ratelimit: RateLimitSettings::default(),
        }
    }

    /// Where agents connect.
    #[must_use]
    pub const fn bind(&self) -> SocketAddr {
        SocketAddr::new(self.bind_address, self.bind_port)
    }

    /// Lifetime of an agent's SVID.
    #[must_use]
    pub fn agent_svid_ttl(&self) -> HumanDuration {
        self.agent_ttl.unwrap_or(self.default_x509_svid_ttl)
    }

    /// Kind of the key that signs JWT-SVIDs.
    #[must_use]
    pub fn jwt_key(&self) -> KeyType {
        self.jwt_key_type.unwrap_or(self.ca_key_type)
    }
}

/// Keys of SPIRE's files that are somewhere else here, or nowhere.
pub(crate) const SPIRE_KEYS: &[(&str, &str)] = &[
    ("server", "svidecar has no blocks around its keys; put its keys at the top level"),
    ("agent", "svidecar has no blocks around its keys; put its keys at the top level"),
    ("plugins", "svidecar has no plugins; what they configure is built in, see the reference of settings"),
    ("telemetry", "metrics are served at `/metrics` of `health: {listen: …}`"),
    ("health_checks", "write `health: {listen: HOST:PORT}`"),
    ("log_level", "write `log: {level: …}`"),
    ("log_format", "write `log: {format: …}`"),
    ("log_file", "logs go to standard error; let the service manager write the file"),
];

impl Settings for ServerSettings {
    const PROGRAM: &'static str = "svidecar-server";

    fn validate(&self, problems: &mut Problems) {
        let lifetimes = [
            ("agent_ttl", self.agent_svid_ttl()),
            ("default_x509_svid_ttl", self.default_x509_svid_ttl),
            ("default_jwt_svid_ttl", self.default_jwt_svid_ttl),
            ("ca_ttl", self.ca_ttl),
        ];
        for (key, lifetime) in lifetimes {
            // Certificates and tokens count in whole seconds.
            if lifetime < HumanDuration::from_secs(1) {
                problems.add(key, format!("a lifetime is at least 1s, found {lifetime}"));
            }
        }
        for (index, id) in self.admin_ids.iter().enumerate() {
            if id.path().is_empty() {
                problems.add(
                    format!("admin_ids[{index}]"),
                    format!("{id} is a trust domain, not the ID of an administrator"),
                );
            }
        }
        if self.jwt_issuer.as_deref() == Some("") {
            problems.add("jwt_issuer", "it is empty; leave it out for tokens without `iss`");
        }
        check_socket_path("socket_path", &self.socket_path, problems);
        self.ca_subject.validate(problems);
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

    fn problems(change: impl FnOnce(&mut ServerSettings)) -> Vec<String> {
        let mut settings = ServerSettings::new("demo.org".parse().unwrap(), "/d");
        change(&mut settings);
        wrong_keys(&settings)
    }

    #[test]
    fn defaults_fit_together() {
        assert_eq!(problems(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn each_rule_names_its_key() {
        assert_eq!(problems(|s| s.ca_ttl = HumanDuration::from_secs(0)), ["ca_ttl"]);
        assert_eq!(
            problems(|s| s.default_x509_svid_ttl = HumanDuration::from_secs(0)),
            ["agent_ttl", "default_x509_svid_ttl"]
        );
        assert_eq!(problems(|s| s.admin_ids = vec!["spiffe://demo.org".parse().unwrap()]), ["admin_ids[0]"]);
        assert_eq!(problems(|s| s.jwt_issuer = Some(String::new())), ["jwt_issuer"]);
        assert_eq!(problems(|s| s.socket_path = format!("/{}", "x".repeat(120)).into()), ["socket_path"]);
        assert_eq!(problems(|s| s.ca_subject.country = vec!["USA".into()]), ["ca_subject.country[0]"]);
        assert_eq!(
            problems(|s| s.ca_subject.organization = vec![String::new()]),
            ["ca_subject.organization[0]"]
        );
        assert_eq!(problems(|s| s.ca_subject.common_name = "x".repeat(65)), ["ca_subject.common_name"]);
    }

    #[test]
    fn what_is_not_set_follows_what_is() {
        let mut settings = ServerSettings::new("demo.org".parse().unwrap(), "/d");
        settings.ca_key_type = KeyType::Rsa2048;
        assert_eq!(settings.jwt_key(), KeyType::Rsa2048);
        assert_eq!(settings.agent_svid_ttl(), settings.default_x509_svid_ttl);
        assert_eq!(settings.bind().to_string(), "127.0.0.1:8081");
    }
}
