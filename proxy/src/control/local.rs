//! Tokens for local apps that speak HTTP and no gRPC, on a listener of their own.
//!
//! Owns who may have one: a user of this host who is named, who says so with a header that no browser and no fetcher of URLs
//! sends by itself, and for an audience that is named. Private keys are never given out.

mod query;

use std::{
    fs::DirBuilder,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    sync::Arc,
    time::Duration,
};

use http::{StatusCode, header::HOST};
use serde_json::{Value, json};
use svidecar_api::transport::Endpoint;
use svidecar_config::{address::ListenAddress, proxy::LocalApiSettings};
use svidecar_process::{
    clock,
    http::{Asked, Client as Asker, Door, Limits, Reply, serve},
    loopback,
};
use svidecar_workload::Client;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::admin::is_own_host;
use crate::{
    error::ProxyError,
    runtime::{
        shared::Shared,
        sockets::{self, BoundListener, ListenSocket, SocketFile},
    },
};

/// What a request must have, with the value `true`.
pub const LOCAL_HEADER: &str = "x-svidecar-local";

/// Audiences of one token.
const MAX_AUDIENCES: usize = 16;

/// Some apps of one host. Nothing has a body.
const LIMITS: Limits =
    Limits { connections: 64, head: Duration::from_secs(15), answer: Duration::from_secs(15), body: 0 };

/// Gives out tokens.
pub struct LocalApi {
    /// Who we are.
    pub shared: Arc<Shared>,
    /// Where tokens come from.
    pub endpoint: Endpoint,
    /// Who may have which.
    pub settings: LocalApiSettings,
}

/// A listener that is bound and not served yet.
pub struct Bound {
    door: Door,
    /// Where it really listens.
    pub address: ListenAddress,
    file: Option<SocketFile>,
}

/// Binds the listener, unless it is off.
///
/// # Errors
/// An address that cannot be had.
pub fn bind(settings: &LocalApiSettings) -> Result<Option<Bound>, ProxyError> {
    const NAME: &str = "local_api";
    let Some(wanted) = settings.address() else { return Ok(None) };
    let failed = |source| ProxyError::Bind { listener: NAME.to_owned(), address: wanted.to_string(), source };
    if let ListenAddress::Unix(path) = wanted
        && let Some(directory) = path.parent()
    {
        DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
    }
    let BoundListener { address, sockets, file } = sockets::bind(NAME, wanted, 1)?;
    if let (ListenAddress::Unix(path), false) = (&address, settings.uids.is_empty()) {
        // Who asks is checked with each request.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
    }
    let door = sockets.into_iter().next().map(|socket| match socket {
        ListenSocket::Tcp(socket) => TcpListener::from_std(socket).map(Door::Tcp),
        ListenSocket::Unix(socket) => UnixListener::from_std(socket).map(Door::Unix),
    });
    let Some(door) = door else { return Ok(None) };
    Ok(Some(Bound { door: door.map_err(failed)?, address, file }))
}

impl LocalApi {
    /// Serves until `stop`.
    pub async fn run(self, bound: Bound, stop: CancellationToken) {
        let Bound { door, address, file } = bound;
        info!(%address, "Tokens are given out to local apps");
        let api = Arc::new(self);
        let answer = move |asked| {
            let api = Arc::clone(&api);
            async move { api.answer(asked).await.unwrap_or_else(|refused| refused) }
        };
        serve(door, LIMITS, answer, stop).await;
        drop(file);
    }

    async fn answer(&self, asked: Asked) -> Result<Reply, Reply> {
        check_header(&asked)?;
        let is_read = asked.is_read();
        let (path, query) = (asked.path().to_owned(), asked.query().to_owned());
        self.check_user(asked.client(), asked.local()).await?;
        if !is_read {
            let message = "tokens are read with GET";
            return Err(
                Reply::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).allowing("GET")
            );
        }
        match path.as_str() {
            "/spiffe/svid/jwt" => self.jwt(&query).await,
            _ => {
                let message = "there is /spiffe/svid/jwt?audience=NAME here, and nothing else";
                Err(Reply::error(StatusCode::NOT_FOUND, "not_found", message))
            }
        }
    }

    /// The kernel knows who made the socket at the other end.
    async fn check_user(&self, asker: Option<Asker>, local: Option<SocketAddr>) -> Result<(), Reply> {
        let uid = match (asker, local) {
            (Some(Asker::User(uid)), _) => Some(uid),
            (Some(Asker::At(peer)), Some(local)) => user_of(peer, local).await,
            _ => None,
        };
        let own = nix::unistd::geteuid().as_raw();
        if uid.is_some_and(|uid| uid == own || uid == 0 || self.settings.uids.contains(&uid)) {
            return Ok(());
        }
        let who = uid.map_or_else(|| "an unknown user".to_owned(), |uid| format!("user {uid}"));
        if let Some(leave) = self.shared.throttle.leave(clock::monotonic()) {
            warn!(
                who,
                kept_back = leave.kept_back,
                "A token was asked for by a user who is not in local_api.uids"
            );
        }
        let message = format!("{who} may not ask; local_api.uids names who may, besides user {own} and root");
        Err(Reply::error(StatusCode::FORBIDDEN, "user_not_allowed", &message))
    }

    async fn jwt(&self, query: &str) -> Result<Reply, Reply> {
        let audience: Vec<String> = query::parameters(query)
            .filter(|(name, value)| name == "audience" && !value.is_empty())
            .map(|(_, value)| value)
            .take(MAX_AUDIENCES)
            .collect();
        if audience.is_empty() {
            let message = "name whom the token is for: /spiffe/svid/jwt?audience=NAME";
            return Err(Reply::error(StatusCode::BAD_REQUEST, "no_audience", message));
        }
        if let Some(other) = audience.iter().find(|name| !self.settings.audiences.contains(name)) {
            let message = format!("`{other}` is not in local_api.audiences");
            return Err(Reply::error(StatusCode::FORBIDDEN, "audience_not_allowed", &message));
        }
        let id = self.own_id()?;
        let svids =
            async { Client::connect(&self.endpoint).await?.fetch_jwt_svids(audience, Some(id)).await };
        let svids = svids.await.map_err(|error| {
            Reply::error(StatusCode::BAD_GATEWAY, "workload_api_failed", &error.to_string())
        })?;
        let tokens: Vec<Value> = svids
            .into_iter()
            .map(|svid| json!({ "spiffe_id": svid.spiffe_id, "hint": svid.hint, "token": svid.svid }))
            .collect();
        Ok(Reply::json_indented(StatusCode::OK, &json!({ "enabled": true, "svids": tokens })))
    }

    fn own_id(&self) -> Result<String, Reply> {
        let snapshot = self.shared.current.load();
        let identity = &snapshot.identity;
        identity.valid_svid(clock::unix()).map(|svid| svid.id.to_string()).ok_or_else(|| {
            let body = json!({
                "enabled": false,
                "state": identity.status.state.code(),
                "message": identity.status.detail,
                "workload_api": self.endpoint.to_string(),
            });
            Reply::json_indented(StatusCode::SERVICE_UNAVAILABLE, &body)
        })
    }
}

/// Exactly one `true`; and the Host field of a page whose name was made to resolve to this machine is not ours.
fn check_header(asked: &Asked) -> Result<(), Reply> {
    let mut values = asked.headers().get_all(LOCAL_HEADER).iter();
    let is_meant = matches!((values.next(), values.next()), (Some(value), None) if value == "true");
    if !is_meant {
        let message = "a request here has to have the header `x-svidecar-local: true`";
        return Err(Reply::error(StatusCode::FORBIDDEN, "local_header_missing", message));
    }
    if asked.local().is_some() && !is_own_host(asked.headers().get(HOST), asked.local()) {
        let message =
            "the Host field is not an address of this listener; a web page may be behind this request";
        return Err(Reply::error(StatusCode::MISDIRECTED_REQUEST, "wrong_host", message));
    }
    Ok(())
}

async fn user_of(peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    let found = tokio::task::spawn_blocking(move || loopback::socket(peer, local)).await;
    Some(found.ok()?.ok()??.uid)
}
