//! The way to the server: its administration socket.

use std::path::PathBuf;

use clap::Args;
use svidecar_api::{
    spire::api::server::{
        agent::v1::agent_client::AgentClient, bundle::v1::bundle_client::BundleClient,
        entry::v1::entry_client::EntryClient,
        localauthority::v1::local_authority_client::LocalAuthorityClient, svid::v1::svid_client::SvidClient,
    },
    svidecar::server::v1::{
        backup_client::BackupClient, bootstrap_keys_client::BootstrapKeysClient, clock_client::ClockClient,
        join_tokens_client::JoinTokensClient,
    },
    transport::{Usual, uds},
};
use svidecar_config::place;
use tonic::transport::Channel;
use tonic_health::pb::health_client::HealthClient;

use super::error::CliError;

/// Largest answer in bytes: a page of entries with a thousand selectors each is larger than gRPC's default.
const MAX_ANSWER: usize = 64 << 20;

/// Which server is meant.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which server")]
pub(super) struct ServerSocket {
    /// The server's administration socket. Default: /run/svidecar/server.sock, of users other than root
    /// $XDG_RUNTIME_DIR/svidecar/server.sock, or SPIRE's where it is
    #[arg(long, value_name = "PATH", env = "SPIRE_SERVER_PRIVATE_SOCKET")]
    socket_path: Option<String>,
    /// Name of the instance, put in place of %i in SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Where the sockets of named instances are
    #[arg(long, env = "SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE", hide = true)]
    socket_template: Option<String>,
}

impl ServerSocket {
    /// Where the socket is.
    pub(super) fn path(&self) -> Result<PathBuf, CliError> {
        let Some(instance) = &self.instance else {
            let Some(given) = &self.socket_path else {
                let place::Usual { ours, anybodys } = place::server_sockets();
                return Ok(Usual::new(ours, anybodys).path().to_owned());
            };
            let path = given.strip_prefix("unix:").unwrap_or(given);
            return Ok(path.strip_prefix("//").unwrap_or(path).into());
        };
        match &self.socket_template {
            Some(template) if template.contains("%i") => Ok(template.replace("%i", instance).into()),
            Some(_) => Err(CliError::message("failed to find %i in SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE")),
            None => Err(CliError::message(
                "you must define SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE to use the instance flag",
            )),
        }
    }

    async fn connect(&self) -> Result<Channel, CliError> {
        Ok(uds::connect_to_ours(self.path()?).await?)
    }

    pub(super) async fn agents(&self) -> Result<AgentClient<Channel>, CliError> {
        Ok(AgentClient::new(self.connect().await?).max_decoding_message_size(MAX_ANSWER))
    }

    /// Our own service: a SPIRE server does not have it.
    pub(super) async fn tokens(&self) -> Result<JoinTokensClient<Channel>, CliError> {
        Ok(JoinTokensClient::new(self.connect().await?).max_decoding_message_size(MAX_ANSWER))
    }

    pub(super) async fn authorities(&self) -> Result<LocalAuthorityClient<Channel>, CliError> {
        Ok(LocalAuthorityClient::new(self.connect().await?))
    }

    /// Our own service.
    pub(super) async fn backups(&self) -> Result<BackupClient<Channel>, CliError> {
        Ok(BackupClient::new(self.connect().await?).max_decoding_message_size(MAX_ANSWER))
    }

    /// Our own service.
    pub(super) async fn bootstrap_keys(&self) -> Result<BootstrapKeysClient<Channel>, CliError> {
        Ok(BootstrapKeysClient::new(self.connect().await?))
    }

    /// Our own service, too.
    pub(super) async fn clock(&self) -> Result<ClockClient<Channel>, CliError> {
        Ok(ClockClient::new(self.connect().await?))
    }

    pub(super) async fn bundles(&self) -> Result<BundleClient<Channel>, CliError> {
        Ok(BundleClient::new(self.connect().await?).max_decoding_message_size(MAX_ANSWER))
    }

    pub(super) async fn entries(&self) -> Result<EntryClient<Channel>, CliError> {
        Ok(EntryClient::new(self.connect().await?).max_decoding_message_size(MAX_ANSWER))
    }

    pub(super) async fn svids(&self) -> Result<SvidClient<Channel>, CliError> {
        Ok(SvidClient::new(self.connect().await?))
    }

    pub(super) async fn health(&self) -> Result<HealthClient<Channel>, CliError> {
        Ok(HealthClient::new(self.connect().await?))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_socket_is_a_path_a_uri_or_an_instance() {
        let socket = |path: &str, instance: Option<&str>, template: Option<&str>| {
            ServerSocket {
                socket_path: Some(path.to_owned()),
                instance: instance.map(str::to_owned),
                socket_template: template.map(str::to_owned),
            }
            .path()
            .ok()
        };
        assert_eq!(socket("/a/b.sock", None, None).as_deref(), Some(Path::new("/a/b.sock")));
        assert_eq!(socket("unix:///a/b.sock", None, None).as_deref(), Some(Path::new("/a/b.sock")));
        assert_eq!(socket("unix:/a/b.sock", None, None).as_deref(), Some(Path::new("/a/b.sock")));
        assert_eq!(
            socket("/a", Some("x"), Some("/run/%i/api.sock")).as_deref(),
            Some(Path::new("/run/x/api.sock"))
        );
        assert_eq!(socket("/a", Some("x"), Some("/run/api.sock")), None);
        assert_eq!(socket("/a", Some("x"), None), None);
    }
}
