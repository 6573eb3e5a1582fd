//! What follows a switch of protocols: bytes both ways, such as a WebSocket's, still under the eyes of the policy.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tracing::debug;

use super::{
    exchange::Exchange,
    tcp::{Transferred, TunnelEnd, tunnel},
};
use crate::{
    codes,
    connections::{Event, Lifeline},
    decide::Flight,
    drain::Direction,
    inbound::{FlightGuard, InboundConnection},
    outbound::OutboundConnection,
    peer::Peer,
    upstream::UpstreamSpec,
    workers::Worker,
};

/// The client's half of a connection that is about to switch protocols.
pub struct Tunnel {
    worker: Arc<Worker>,
    client: OnUpgrade,
    lifeline: Lifeline,
    on_event: Box<dyn FnMut(Event) -> Option<(TunnelEnd, Duration)> + Send>,
}

impl Tunnel {
    /// From a peer to the app. The request that asked for it is what it is judged by.
    #[must_use]
    pub fn inbound(connection: &Arc<InboundConnection>, client: OnUpgrade, flight: &Arc<Flight>) -> Self {
        let (owner, flight) = (Arc::clone(connection), Arc::clone(flight));
        Self {
            worker: Arc::clone(&connection.worker),
            client,
            lifeline: connection.lifeline(),
            on_event: Box::new(move |event| owner.on_event(event, Some(&flight))),
        }
    }

    /// From our workload to a server.
    #[must_use]
    pub fn outbound(
        connection: &Arc<OutboundConnection>,
        client: OnUpgrade,
        server: Option<Arc<Peer>>,
        spec: &Arc<UpstreamSpec>,
    ) -> Self {
        let (owner, spec) = (Arc::clone(connection), Arc::clone(spec));
        Self {
            worker: Arc::clone(&connection.worker),
            client,
            lifeline: connection.worker.shared.lifeline(Direction::Outbound),
            on_event: Box::new(move |event| owner.on_event(event, server.as_deref(), &spec)),
        }
    }

    /// Joins both halves once the 101 has gone out. The exchange is recorded when the tunnel ends.
    pub fn start(mut self, server: OnUpgrade, mut exchange: Exchange, flight: Option<FlightGuard>) {
        let worker = Arc::clone(&self.worker);
        worker.spawn(async move {
            let _flight = flight;
            let (client, server) = match futures_util::future::try_join(self.client, server).await {
                Ok(halves) => halves,
                Err(error) => {
                    debug!(%error, "A switch of protocols did not come about");
                    exchange.ended(Some(codes::CLIENT_CLOSED));
                    return;
                }
            };
            let transferred = Arc::new(Transferred::default());
            let (client, server) = (TokioIo::new(client), TokioIo::new(server));
            let end = tunnel(client, server, &transferred, &mut self.lifeline, &mut self.on_event).await;
            exchange.transferred(
                transferred.received.load(Ordering::Relaxed),
                transferred.sent.load(Ordering::Relaxed),
            );
            exchange.ended(end.code());
        });
    }
}
