//! The settings of the docker attestor. Keys and defaults are SPIRE's where SPIRE has them.

use std::{fmt, path::PathBuf, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_document::{problems::Problems, text::InvalidValue, text_value};

use crate::{address::Address, units::HumanDuration};

/// What the docker attestor asks, and whom it believes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DockerAttestorSettings {
    /// Give callers in containers the selectors `docker:label`, `docker:env`, `docker:image_id` and
    /// `docker:image_config_digest`, as the engine's API says them.
    pub enabled: bool,
    /// Unix socket of the Docker Engine's API.
    pub docker_socket_path: EngineSocket,
    /// Unix socket of podman's API, for containers of root.
    pub podman_socket_path: EngineSocket,
    /// Unix sockets of users' own Docker Engines; `%d` stands for the user's ID.
    pub docker_socket_path_template: SocketTemplate,
    /// Unix sockets of users' own podman; `%d` stands for the user's ID.
    pub podman_socket_path_template: SocketTemplate,
    /// IDs of the users whose own (rootless) engines are believed. Such an engine says whatever its user wants:
    /// who is in this list can give itself every `docker:` selector.
    pub rootless_users: Vec<u32>,
    /// How long a caller waits for the engine's answer, all tries together; before that as long for its turn, if 16 other containers are asked about.
    pub timeout: HumanDuration,
}

impl Default for DockerAttestorSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            docker_socket_path: EngineSocket::at("/var/run/docker.sock"),
            podman_socket_path: EngineSocket::at("/run/podman/podman.sock"),
            docker_socket_path_template: SocketTemplate::between("/run/user/", "/docker.sock"),
            podman_socket_path_template: SocketTemplate::between("/run/user/", "/podman/podman.sock"),
            rootless_users: Vec::new(),
            timeout: HumanDuration::from_secs(5),
        }
    }
}

impl DockerAttestorSettings {
    /// Notes what cannot work.
    pub(crate) fn validate(&self, problems: &mut Problems) {
        if self.timeout.is_zero() {
            problems.add("docker.timeout", "expected more than 0s");
        }
        for (index, user) in self.rootless_users.iter().enumerate() {
            if *user == 0 {
                problems.add(
                    format!("docker.rootless_users[{index}]"),
                    "root's engines are those of `docker_socket_path` and `podman_socket_path`",
                );
            }
        }
    }
}

/// The socket of an engine's API: `unix:///run/podman/podman.sock` or the path alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EngineSocket(PathBuf);

impl EngineSocket {
    /// At `path`, which is absolute.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl FromStr for EngineSocket {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text.starts_with("tcp:") || text.starts_with("http") || text.starts_with("ssh:") {
            return Err(InvalidValue(format!(
                "`{text}` cannot be used: an engine elsewhere knows nothing of the processes here; expected `unix:///PATH`"
            )));
        }
        let socket = if text.starts_with('/') { format!("unix:{text}") } else { text.to_owned() };
        match socket.parse() {
            Ok(Address::Unix(path)) => Ok(Self(path)),
            Ok(Address::Tcp { .. }) => {
                Err(InvalidValue(format!("`{text}` is not a Unix socket; expected `unix:///PATH`")))
            }
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for EngineSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

text_value!(EngineSocket, "EngineSocket", "engine-socket", ["unix:///var/run/docker.sock"]);

/// The sockets of users' engines: an [`EngineSocket`] with exactly one `%d`, the user's ID.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SocketTemplate {
    before: String,
    after: String,
}

impl SocketTemplate {
    fn between(before: &str, after: &str) -> Self {
        Self { before: before.to_owned(), after: after.to_owned() }
    }

    /// The socket of the user `uid`.
    #[must_use]
    pub fn of(&self, uid: u32) -> EngineSocket {
        EngineSocket(format!("{}{uid}{}", self.before, self.after).into())
    }
}

impl FromStr for SocketTemplate {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = || {
            InvalidValue(format!(
                "`{text}` is not a template; expected one `%d` for the user's ID, as in `unix:///run/user/%d/podman/podman.sock`"
            ))
        };
        let path = text.strip_prefix("unix:").unwrap_or(text);
        let path = path.strip_prefix("//").unwrap_or(path);
        let (before, after) = path.split_once("%d").ok_or_else(wrong)?;
        if before.contains('%') || after.contains('%') {
            return Err(wrong());
        }
        // The longest ID decides whether the path still fits.
        format!("unix:{before}{}{after}", u32::MAX).parse::<EngineSocket>()?;
        Ok(Self::between(before, after))
    }
}

impl fmt::Display for SocketTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}%d{}", self.before, self.after)
    }
}

text_value!(
    SocketTemplate,
    "SocketTemplate",
    "engine-socket-template",
    ["unix:///run/user/%d/podman/podman.sock"]
);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn sockets_are_written_as_urls_or_paths() {
        for text in ["unix:///run/d.sock", "unix:/run/d.sock", "/run/d.sock"] {
            let socket: EngineSocket = text.parse().unwrap();
            assert_eq!(socket.to_string(), "unix:///run/d.sock", "{text}");
        }
        for text in ["", "run/d.sock", "unix:run", "tcp://127.0.0.1:2375", "2375", "http://h", "ssh://h"] {
            assert!(text.parse::<EngineSocket>().is_err(), "{text}");
        }
        assert!(format!("/{}", "x".repeat(120)).parse::<EngineSocket>().is_err());
    }

    #[test]
    fn a_template_has_one_place_for_the_user() {
        let template: SocketTemplate = "unix:///run/user/%d/podman/podman.sock".parse().unwrap();
        assert_eq!(template.of(1000).path(), std::path::Path::new("/run/user/1000/podman/podman.sock"));
        assert_eq!(template.to_string(), "unix:///run/user/%d/podman/podman.sock");
        assert_eq!(template, DockerAttestorSettings::default().podman_socket_path_template);
        for text in ["/run/podman.sock", "/%d/%d", "/%d/%s", "/%%/%d", "%d", "tcp://%d"] {
            assert!(text.parse::<SocketTemplate>().is_err(), "{text}");
        }
        // Fits with a short ID and not with the longest.
        assert!(format!("/{}%d", "x".repeat(100)).parse::<SocketTemplate>().is_err());
    }

    #[test]
    fn what_cannot_work_is_noted() {
        let mut problems = Problems::default();
        let settings = DockerAttestorSettings {
            timeout: HumanDuration::from_secs(0),
            rootless_users: vec![1000, 0],
            ..DockerAttestorSettings::default()
        };
        settings.validate(&mut problems);
        let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["docker.timeout", "docker.rootless_users[1]"]);
    }
}
