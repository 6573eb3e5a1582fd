//! Join tokens as administrators see them: made by SPIRE's call or by ours, listed, deleted.
//!
//! Owns how a token is chosen and what is told of it. It must never show a token again once it was handed out.

use std::sync::Arc;

use svidecar_api::{
    spire::api::types,
    svidecar::server::v1::{
        CreateJoinTokenRequest, CreateJoinTokenResponse, DeleteJoinTokenRequest, DeleteJoinTokenResponse,
        JoinToken, ListJoinTokensRequest, ListJoinTokensResponse, join_tokens_server::JoinTokens,
    },
};
use svidecar_id::SpiffeId;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{gate::Caller, status};
use crate::{
    attest::join_token::{MAX_TOKEN_BYTES, agent_id, glimpse},
    ids,
    peer::Peer,
    state::State,
    store::{EntryRecord, Selector, TokenRecord},
};

/// What an administrator asks for.
pub struct Wanted {
    /// Life in seconds.
    pub ttl: i32,
    /// The token, or empty for one that nobody can guess.
    pub token: String,
    /// A second ID for the agent.
    pub alias: Option<types::Spiffeid>,
    /// Whether another key may use it.
    pub reusable: bool,
}

/// A token that was made.
pub struct Made {
    /// The secret, with the hash of our bootstrap key if we chose it.
    pub value: String,
    /// Unix seconds.
    pub expires_at: i64,
    /// What names it.
    pub id: String,
    /// Whom it makes.
    pub agent_id: SpiffeId,
}

/// Makes a token, and with it the entry that gives its agent a second ID.
///
/// # Errors
/// For a life below a second, and for an ID or a token that cannot be.
pub async fn create(state: &State, wanted: Wanted, by: &Peer) -> Result<Made, Status> {
    if wanted.ttl < 1 {
        return Err(Status::invalid_argument("ttl is required, you must provide one"));
    }
    let trust_domain = &state.trust_domain;
    let alias = match &wanted.alias {
        None => None,
        id => Some(
            ids::workload(trust_domain, id.as_ref())
                .map_err(|error| status::invalid("invalid agent ID", error))?,
        ),
    };
    // What is handed out names our bootstrap key, so that the first contact needs no other proof of who we are.
    let (token, value) = if wanted.token.is_empty() {
        let token = Uuid::new_v4().to_string();
        let pinned = format!("{token}.{}", state.ca.bootstrap().pin());
        (token, pinned)
    } else {
        (ids::without_pin(&wanted.token).to_owned(), wanted.token)
    };
    if value.len() > MAX_TOKEN_BYTES {
        return Err(Status::invalid_argument("failed to create token: a token has at most 255 bytes"));
    }
    let agent_id = agent_id(trust_domain, &token, wanted.reusable)
        .map_err(|error| status::invalid("failed to create join token ID", error))?;
    let alias = alias.map(|id| {
        let selector = Selector::new("spiffe_id", agent_id.as_str());
        EntryRecord::new(id, agent_id.clone(), vec![selector])
    });
    let now = state.clock.unix();
    let expires_at = now.saturating_add(i64::from(wanted.ttl));
    let id = ids::token_digest(&token);
    let record = TokenRecord::new(id.clone(), expires_at, wanted.reusable);
    let created = state.store.create_token(record, alias, now).await;
    created.map_err(|error| status::store("failed to create token", &error))?;
    let (ttl, reusable, alias) = (wanted.ttl, wanted.reusable, wanted.alias.map(|id| id.path));
    tracing::info!(token = glimpse(&value), id, ttl, reusable, alias, %by, "join token created");
    Ok(Made { value, expires_at, id, agent_id })
}

/// The service.
pub struct JoinTokenService(pub Arc<State>);

#[tonic::async_trait]
impl JoinTokens for JoinTokenService {
    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<CreateJoinTokenResponse>, Status> {
        let by = Caller::of(&request)?.peer;
        let CreateJoinTokenRequest { ttl, agent_id, reusable } = request.into_inner();
        let made =
            create(&self.0, Wanted { ttl, token: String::new(), alias: agent_id, reusable }, &by).await?;
        Ok(Response::new(CreateJoinTokenResponse {
            value: made.value,
            expires_at: made.expires_at,
            id: made.id,
            agent_id: Some((&made.agent_id).into()),
        }))
    }

    async fn list_join_tokens(
        &self,
        _: Request<ListJoinTokensRequest>,
    ) -> Result<Response<ListJoinTokensResponse>, Status> {
        let tokens = self.0.store.list_tokens().await;
        let tokens = tokens.map_err(|error| status::store("failed to list join tokens", &error))?;
        let tokens = tokens.iter().map(shown).collect();
        Ok(Response::new(ListJoinTokensResponse { tokens }))
    }

    async fn delete_join_token(
        &self,
        request: Request<DeleteJoinTokenRequest>,
    ) -> Result<Response<DeleteJoinTokenResponse>, Status> {
        let by = Caller::of(&request)?.peer;
        let id = request.into_inner().id;
        let deleted = self.0.store.delete_token(&id).await;
        deleted.map_err(|error| status::store("failed to delete join token", &error))?;
        tracing::info!(id, %by, "join token deleted");
        Ok(Response::new(DeleteJoinTokenResponse {}))
    }
}

/// A token without its secret. The ID of an agent of a token that is not reusable has the secret in it, which is
/// none any more once it is bound to a key.
fn shown(token: &TokenRecord) -> JoinToken {
    let mut shown = JoinToken {
        id: token.id.clone(),
        expires_at: token.expires_at,
        reusable: token.reusable,
        ..JoinToken::default()
    };
    if let Some(used) = &token.used {
        shown.agent_id = used.agent.as_ref().map(Into::into);
        shown.key_sha256.clone_from(&used.key_fingerprint);
        shown.used_from.clone_from(&used.from);
        shown.used_at = used.at;
    }
    if let Some(barred) = token.barred.iter().max_by_key(|barred| barred.eviction.at) {
        shown.evicted_by.clone_from(&barred.eviction.by);
        shown.evicted_at = barred.eviction.at;
    }
    shown
}
