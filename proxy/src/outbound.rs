//! The way of an outbound connection: our workload connects in plain text, we pick the upstream's endpoint, check the
//! server's ID in the handshake, forward, record.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::Request;
use hyper::body::Incoming;
use svidecar_config::proxy::ListenerProtocol;
use tracing::{debug, warn};

use crate::{
    accept::{Accepted, Life},
    connections::{Event, LOSER_GRACE},
    drain::Direction,
    forward::{
        self,
        exchange::{Exchange, Via},
        http::End,
        tcp::{Transferred, TunnelEnd, tunnel},
    },
    net::{PeerAddress, Stream},
    peer::Peer,
    plan::Outbound,
    upstream::{self, UpstreamSpec, dial::DialledStream},
    workers::Worker,
};

/// A connection of our workload.
pub struct OutboundConnection {
    /// The thread it lives on.
    pub worker: Arc<Worker>,
    /// The listener, as it was when the connection came. Each request uses the one of its own moment.
    pub listener: Arc<Outbound>,
    /// Where the workload connects from.
    pub address: PeerAddress,
    _life: Life,
}

/// Serves one connection from the first byte to the last.
pub async fn serve(worker: Arc<Worker>, name: Arc<str>, accepted: Accepted) {
    // Gone with a reload that came between the accept and now.
    let Some(listener) = worker.shared.current.load().plan.outbound(&name).cloned() else { return };
    let Accepted { stream, address, life } = accepted;
    let connection = Arc::new(OutboundConnection { worker, listener, address, _life: life });
    match connection.listener.settings.protocol {
        ListenerProtocol::Http => serve_http(connection, stream).await,
        ListenerProtocol::Tcp => serve_tcp(connection, stream).await,
    }
}

async fn serve_http(connection: Arc<OutboundConnection>, stream: Stream) {
    let mut lifeline = connection.worker.shared.lifeline(Direction::Outbound);
    let end = forward::http::serve_outbound(&connection, stream, &mut lifeline).await;
    if let End::Failed(error) = end {
        debug!(listener = %connection.listener.name, peer = %connection.address, error, "A connection of the workload failed");
    }
}

/// A TCP connection: the server's ID is checked before a byte of the workload leaves.
async fn serve_tcp(connection: Arc<OutboundConnection>, stream: Stream) {
    let OutboundConnection { worker, listener, address, .. } = &*connection;
    let mut exchange = Exchange::of_connection(worker, Via::Outbound(Arc::clone(listener)), *address);
    let upstream = worker.upstream(&listener.upstream);
    let dialled = match upstream.dial(worker).await {
        Ok(dialled) => dialled,
        Err(refusal) => {
            warn!(listener = %listener.name, code = refusal.code, error = refusal.detail, "Cannot reach the upstream; resetting the workload's connection");
            exchange.ended(Some(refusal.code));
            stream.reset_on_close();
            return;
        }
    };
    exchange.upstream(&dialled.facts);
    if let Some(id) = upstream::dial::server_id(&dialled.facts) {
        exchange.peer(id);
    }
    let DialledStream::Tls(to_server) = dialled.stream else { return };
    let transferred = Arc::new(Transferred::default());
    let mut lifeline = worker.shared.lifeline(Direction::Outbound);
    let server = dialled.facts.server.clone();
    if let Some(server) = &server {
        let now = rustls_pki_types::UnixTime::now();
        lifeline.expire_after(crate::connections::time_to_leave(
            server.facts().not_after,
            now,
            rand::random(),
        ));
    }
    let end = tunnel(stream, *to_server, &transferred, &mut lifeline, |event| {
        connection.on_event(event, server.as_deref(), &listener.upstream)
    })
    .await;
    exchange
        .transferred(transferred.received.load(Ordering::Relaxed), transferred.sent.load(Ordering::Relaxed));
    exchange.ended(end.code());
}

impl OutboundConnection {
    /// The upstream as the snapshot has it; as it was when it is gone.
    #[must_use]
    pub fn upstream_now(&self) -> Arc<UpstreamSpec> {
        let snapshot = self.worker.shared.current.load();
        let listener = snapshot.plan.outbound(&self.listener.name).unwrap_or(&self.listener);
        Arc::clone(&listener.upstream)
    }

    /// What an event means for a tunnel to a server: nothing, or why it ends and how soon.
    pub fn on_event(
        &self,
        event: Event,
        server: Option<&Peer>,
        spec: &UpstreamSpec,
    ) -> Option<(TunnelEnd, Duration)> {
        match event {
            Event::Changed => {
                let snapshot = self.worker.shared.current.load();
                if snapshot.plan.outbound(&self.listener.name).is_none() {
                    return Some((TunnelEnd::Drained, snapshot.plan.settings.drain_timeout.get()));
                }
                let error = upstream::dial::objection(&snapshot, spec, server?)?;
                warn!(listener = %self.listener.name, error, "The server would not be accepted any more; closing its connection");
                Some((TunnelEnd::NoLongerAllowed, LOSER_GRACE))
            }
            Event::PeerExpired => {
                let snapshot = self.worker.shared.current.load();
                snapshot.plan.expiry_grace().map(|grace| (TunnelEnd::PeerExpired, grace))
            }
            Event::Draining | Event::TimeIsUp => None,
        }
    }
}

/// A request's record, begun with what its connection knows.
#[must_use]
pub fn begin_exchange(connection: &OutboundConnection, request: &Request<Incoming>) -> Exchange {
    let via = Via::Outbound(Arc::clone(&connection.listener));
    Exchange::of_request(&connection.worker, via, connection.address, None, request)
}
