//! The way of an outbound connection: our workload connects in plain text, we pick the upstream's endpoint, check the
//! server's ID in the handshake, forward, record.

use std::{rc::Rc, sync::Arc};

use svidecar_config::proxy::ListenerProtocol;

use super::{
    caller::Caller,
    either,
    incoming::Incoming,
    rules::AnyListener,
    tcp::{self, Opening},
};
use crate::{
    admit::Party,
    io::Transport,
    runtime::{life::Accepted, worker::Worker},
    upstream::upstreams::Upstreams,
};

/// Serves one connection from the first byte to the last.
pub async fn serve(worker: Rc<Worker>, upstreams: Rc<Upstreams>, name: Arc<str>, accepted: Accepted) {
    let Accepted { socket, address, life } = accepted;
    // Gone with a reload that came between the accept and now, or moved to another address.
    let listener = worker.shared.current.load().plan.outbound(&name).cloned();
    let Some(listener) = listener.filter(|listener| life.came_by(&listener.settings.listen)) else { return };
    let protocol = listener.settings.protocol;
    let party = Party { worker, address, peer: None };
    let listener = AnyListener::Outbound(listener);
    let Some(incoming) = Incoming::new(party, upstreams, &listener) else { return };
    let stream = Transport::from(socket);
    match protocol {
        ListenerProtocol::Http => either::serve(Caller::new(&incoming, life), stream).await,
        ListenerProtocol::Tcp => tcp::serve(incoming, Opening::Open(stream), life).await,
    }
}
