//! Before every call: finds out what kind of caller it is, as far as the method asks, and lets it through or
//! answers PERMISSION_DENIED with SPIRE's reason. What a caller sends is counted from here on.

mod meter;

use std::{
    collections::HashSet,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use svidecar_api::status::{Reason, permission_denied};
use svidecar_authority::x509::VerifiedPeer;
use svidecar_id::SpiffeId;
use svidecar_process::{Source, clock};
use tonic::{Code, Status, body::Body, codegen::Service};
use tower::Layer;

pub use self::meter::MAX_OPEN_REQUEST;
use self::meter::{Memory, Metered};
use super::access;
use crate::{
    peer::Peer,
    state::State,
    store::{AgentRecord, EntryRecord},
    telemetry,
};

/// A caller that was let through.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The other end of the connection.
    pub peer: Peer,
    /// The calling agent, when the method is for agents and this is one.
    pub agent: Option<Agent>,
    /// The entry that makes the caller a server below this one.
    pub downstream: Option<Arc<EntryRecord>>,
}

/// An agent whose SVID was found to be the active one.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its ID.
    pub id: SpiffeId,
    /// The SVID that it called with.
    pub svid: Arc<VerifiedPeer>,
}

impl Caller {
    /// The caller of a request; the gate has put it there.
    ///
    /// # Errors
    /// INTERNAL when the request did not pass the gate.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        request.extensions().get().cloned().ok_or_else(|| Status::internal("caller missing from request"))
    }

    /// The calling agent of a request to a method that is for agents.
    ///
    /// # Errors
    /// INTERNAL when the caller is no agent, which the gate excludes for such methods.
    pub fn agent_of<T>(request: &tonic::Request<T>) -> Result<Agent, Status> {
        Self::of(request)?.agent.ok_or_else(|| Status::internal("caller ID missing from request context"))
    }
}

/// Decides about callers.
pub struct Gate {
    state: Arc<State>,
    admin_ids: HashSet<SpiffeId>,
    memory: Memory,
}

impl Gate {
    /// `admin_ids` are administrators whatever the entries say.
    pub fn new(state: Arc<State>, admin_ids: impl IntoIterator<Item = SpiffeId>) -> Self {
        Self { state, admin_ids: admin_ids.into_iter().collect(), memory: Memory::default() }
    }

    /// Lets a caller through to a method, or says why not.
    async fn admit(&self, path: &str, peer: &Peer) -> Result<Caller, Status> {
        // What is not in the table does not get past here, even if a service had it.
        let Some(access) = access::of(path) else {
            return Err(Status::unimplemented(format!("this server has no method {path}")));
        };
        let mut caller = Caller { peer: peer.clone(), agent: None, downstream: None };
        if access.anyone {
            return Ok(caller);
        }
        let denied = || Status::permission_denied(format!("authorization denied for method {path}"));
        let svid = match peer {
            Peer::Local { .. } => return if access.local { Ok(caller) } else { Err(denied()) },
            Peer::Remote { svid, .. } => svid.as_ref().ok_or_else(denied)?,
        };
        // What was granted or taken away before this call counts for it.
        self.state.entries.current().await;
        // A connection may outlive the SVID that it was opened with.
        let expired = svid.not_after < self.state.clock.now();
        if !expired {
            if access.admin && self.is_admin(&svid.id) {
                return Ok(caller);
            }
            if access.downstream {
                let entries = self.state.entries.with_spiffe_id(&svid.id, self.state.clock.unix());
                if let Some(entry) = entries.into_iter().find(|entry| entry.downstream) {
                    caller.downstream = Some(entry);
                    return Ok(caller);
                }
            }
        }
        if access.agent {
            return match self.check_agent(svid, expired).await {
                Ok(()) => {
                    caller.agent = Some(Agent { id: svid.id.clone(), svid: Arc::clone(svid) });
                    Ok(caller)
                }
                Err(Refusal::Reason(reason)) => Err(permission_denied(reason, denied().message())),
                Err(Refusal::Status(status)) => Err(status),
            };
        }
        Err(denied())
    }

    fn is_admin(&self, id: &SpiffeId) -> bool {
        let entries = || self.state.entries.with_spiffe_id(id, self.state.clock.unix());
        self.admin_ids.contains(id) || entries().iter().any(|entry| entry.admin)
    }

    async fn check_agent(&self, svid: &VerifiedPeer, expired: bool) -> Result<(), Refusal> {
        if expired {
            return Err(Refusal::Reason(Reason::AgentExpired));
        }
        let Some(known) = self.state.entries.agent(&svid.id) else {
            return Err(Refusal::Reason(Reason::AgentNotAttested));
        };
        let current = self.state.renewals.current(Arc::clone(&known));
        if current.is_banned() {
            Err(Refusal::Reason(Reason::AgentBanned))
        } else if current.serial == svid.serial {
            Ok(())
        } else if current.new_serial == svid.serial {
            self.activate(known, svid).await
        } else {
            Err(Refusal::Reason(Reason::AgentNotActive))
        }
    }

    /// The first use of a renewed SVID makes it the active one.
    async fn activate(&self, known: Arc<AgentRecord>, svid: &VerifiedPeer) -> Result<(), Refusal> {
        match self.state.renewals.see(known, &svid.serial).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(spiffe_id = %svid.id, code = error.code().name(), %error, "cannot activate the agent's new SVID");
                Err(Refusal::Status(Status::internal(format!(
                    "unable to activate the new agent SVID: {error}"
                ))))
            }
        }
    }
}

enum Refusal {
    Reason(Reason),
    Status(Status),
}

/// The gate as tonic's server takes it.
#[derive(Clone)]
pub struct GateLayer(pub Arc<Gate>);

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: Arc::clone(&self.0), inner }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Gated<S> {
    gate: Arc<Gate>,
    inner: S,
}

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let gate = Arc::clone(&self.gate);
        // The service that was polled ready is the one to call; the clone stays behind for the next call.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let peer = request.extensions().get::<Peer>().cloned();
            let admitted = match &peer {
                Some(peer) => gate.admit(&path, peer).await,
                None => Err(Status::internal("connection without a known peer")),
            };
            match admitted {
                Ok(caller) => {
                    telemetry::called(&path, true);
                    let is_open = access::of(&path).is_some_and(|access| access.anyone);
                    let meter = gate.memory.meter(&caller.peer, is_open);
                    request.extensions_mut().insert(caller);
                    if let Some(meter) = &meter {
                        request = request.map(|body| Metered::body(body, Arc::clone(meter)));
                    }
                    let answer = inner.call(request).await;
                    // Until here, because the message that was read is as large as its bytes.
                    drop(meter);
                    answer
                }
                Err(status) => {
                    let source = peer.as_ref().map_or(Source::Unknown, Peer::source);
                    let reason = svidecar_api::status::permission_denied_reason(&status);
                    let method = if access::of(&path).is_some() { &path } else { "unknown" };
                    telemetry::called(method, false);
                    let leave = || gate.state.strangers.leave_for(source, clock::monotonic());
                    if status.code() == Code::PermissionDenied
                        && let Some(leave) = leave()
                    {
                        let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
                        let reason = reason.map(|reason| reason.as_str_name());
                        tracing::warn!(
                            method = path,
                            peer,
                            reason,
                            kept_back = leave.kept_back,
                            "denied a call"
                        );
                    }
                    Ok(status.into_http())
                }
            }
        })
    }
}
