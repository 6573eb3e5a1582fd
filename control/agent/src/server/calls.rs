//! The calls that an attested agent makes, each with a bound on its time.

use std::time::Duration;

use svidecar_api::{
    bootstrap,
    spire::api::{
        server::{
            agent::v1::{
                AgentX509svidParams, PostStatusRequest, RenewAgentRequest, agent_client::AgentClient,
            },
            bundle::v1::{GetBundleRequest, GetFederatedBundleRequest, bundle_client::BundleClient},
            svid::v1::{
                BatchNewX509svidRequest, NewJwtsvidRequest, NewX509svidParams, batch_new_x509svid_response,
                svid_client::SvidClient,
            },
        },
        types,
    },
    svidecar::server::v1::watch_client::WatchClient,
};
use svidecar_authority::bundle::Bundle;
use tonic::{Response, transport::Channel};

use super::{
    address::Address,
    dial::call_error,
    link::{Link, Session},
};
use crate::{cache::bundle_from_wire, error::AgentError};

/// Largest answer that is read: the entries and bundles of a very large trust domain.
pub const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// A server that does not answer for so long is away.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Asks for the trust domain's bundle over any channel.
///
/// # Errors
/// When the server does not answer, or with something else.
pub async fn get_bundle(address: &Address, channel: Channel) -> Result<Bundle, AgentError> {
    let what = "GetBundle";
    let mut client = BundleClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    match tokio::time::timeout(CALL_TIMEOUT, client.get_bundle(GetBundleRequest::default())).await {
        Ok(Ok(answer)) => own_bundle(address, answer.into_inner()),
        Ok(Err(status)) => Err(call_error(address, what, status)),
        Err(_) => Err(AgentError::Late { what, after: CALL_TIMEOUT }),
    }
}

fn own_bundle(address: &Address, wire: types::Bundle) -> Result<Bundle, AgentError> {
    let bundle =
        bundle_from_wire(wire).map_err(|reason| AgentError::BadAnswer { what: "GetBundle", reason })?;
    if bundle.trust_domain != address.trust_domain {
        let reason =
            format!("it is the bundle of `{}`, expected `{}`", bundle.trust_domain, address.trust_domain);
        return Err(AgentError::BadAnswer { what: "GetBundle", reason });
    }
    Ok(bundle)
}

impl Link {
    /// Has X.509-SVIDs signed; see [`Session::sign`]. Tried again when our own SVID is renewed meanwhile.
    ///
    /// # Errors
    /// As [`Session::sign`].
    pub async fn sign(
        &self,
        params: Vec<NewX509svidParams>,
    ) -> Result<Vec<batch_new_x509svid_response::Result>, AgentError> {
        match self.session().sign(params.clone()).await {
            Err(AgentError::Superseded { .. }) => self.session().sign(params).await,
            outcome => outcome,
        }
    }

    /// Has a JWT-SVID signed; see [`Session::sign_jwt`]. Tried again when our own SVID is renewed meanwhile.
    ///
    /// # Errors
    /// As [`Session::sign_jwt`].
    pub async fn sign_jwt(
        &self,
        entry_id: &str,
        audience: Vec<String>,
    ) -> Result<types::Jwtsvid, AgentError> {
        match self.session().sign_jwt(entry_id, audience.clone()).await {
            Err(AgentError::Superseded { .. }) => self.session().sign_jwt(entry_id, audience).await,
            outcome => outcome,
        }
    }
}

impl Session {
    /// The trust domain's bundle.
    ///
    /// # Errors
    /// When the server does not answer, or with something else.
    pub async fn bundle(&self) -> Result<Bundle, AgentError> {
        let wire = self
            .call("GetBundle", CALL_TIMEOUT, |channel| async move {
                let mut client = BundleClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
                client.get_bundle(GetBundleRequest::default()).await.map(Response::into_inner)
            })
            .await?;
        own_bundle(&self.address, wire)
    }

    /// The bundle of another trust domain; none if the server has none.
    ///
    /// # Errors
    /// When the server does not answer, or with something else.
    pub async fn federated_bundle(&self, trust_domain: &str) -> Result<Option<Bundle>, AgentError> {
        let what = "GetFederatedBundle";
        let request = GetFederatedBundleRequest { trust_domain: trust_domain.to_owned(), output_mask: None };
        let answer = self
            .call(what, CALL_TIMEOUT, |channel| {
                let request = request.clone();
                let mut client = BundleClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
                async move { client.get_federated_bundle(request).await.map(Response::into_inner) }
            })
            .await;
        match answer {
            Ok(wire) => match bundle_from_wire(wire) {
                Ok(bundle) => Ok(Some(bundle)),
                Err(reason) => Err(AgentError::BadAnswer { what, reason }),
            },
            Err(AgentError::Refused { status, .. }) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A client of the pushed changes.
    #[must_use]
    pub fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.changes.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Has X.509-SVIDs signed, one result per request, in order. Signed twice, the first is of no use to anybody.
    ///
    /// # Errors
    /// When the server does not answer, or not with one result per request.
    pub async fn sign(
        &self,
        params: Vec<NewX509svidParams>,
    ) -> Result<Vec<batch_new_x509svid_response::Result>, AgentError> {
        let what = "BatchNewX509SVID";
        let answer = self
            .call(what, CALL_TIMEOUT, |channel| {
                let request = BatchNewX509svidRequest { params: params.clone() };
                let mut client = SvidClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
                async move { client.batch_new_x509svid(request).await.map(Response::into_inner) }
            })
            .await?;
        if answer.results.len() != params.len() {
            let reason = format!("it has {} results for {} requests", answer.results.len(), params.len());
            return Err(AgentError::BadAnswer { what, reason });
        }
        Ok(answer.results)
    }

    /// Has a JWT-SVID signed.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub async fn sign_jwt(
        &self,
        entry_id: &str,
        audience: Vec<String>,
    ) -> Result<types::Jwtsvid, AgentError> {
        let what = "NewJWTSVID";
        let request = NewJwtsvidRequest { entry_id: entry_id.to_owned(), audience };
        let answer = self
            .call(what, CALL_TIMEOUT, |channel| {
                let request = request.clone();
                async move { SvidClient::new(channel).new_jwtsvid(request).await.map(Response::into_inner) }
            })
            .await?;
        answer.svid.ok_or_else(|| AgentError::BadAnswer { what, reason: "it has no SVID".into() })
    }

    /// Renews our own SVID for the key of `csr`: the SVID, and what lets the agent come back by that key, if the server has
    /// such a thing. Of two answers the later one counts, and the SVID of now as well until it is used.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub async fn renew(&self, csr: Vec<u8>) -> Result<(types::X509svid, Vec<Vec<u8>>), AgentError> {
        let what = "RenewAgent";
        let request = RenewAgentRequest { params: Some(AgentX509svidParams { csr }) };
        let (answer, membership) = self
            .call(what, CALL_TIMEOUT, |channel| {
                let request = request.clone();
                async move {
                    let answer = AgentClient::new(channel).renew_agent(request).await?;
                    let membership = bootstrap::membership(answer.metadata());
                    Ok((answer.into_inner(), membership))
                }
            })
            .await?;
        let svid =
            answer.svid.ok_or_else(|| AgentError::BadAnswer { what, reason: "it has no SVID".into() })?;
        Ok((svid, membership))
    }

    /// Tells the server which bundle we have and what we are.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn post_status(&self, current_bundle_serial: u64) -> Result<(), AgentError> {
        let agent_version = format!("svidecar-agent {}", env!("CARGO_PKG_VERSION"));
        let request = PostStatusRequest { current_bundle_serial, agent_version };
        self.call("PostStatus", CALL_TIMEOUT, |channel| {
            let request = request.clone();
            async move { AgentClient::new(channel).post_status(request).await.map(|_| ()) }
        })
        .await
    }
}
