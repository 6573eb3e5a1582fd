//! An inbound connection that carries many: requests of HTTP/2, and in streams of their own TCP connections (CONNECT, as in
//! HBONE) and, from another svidecar, connections of HTTP/1.1 (extended CONNECT, RFC 8441).

use std::rc::Rc;

use svidecar_code::Code;
use svidecar_config::proxy::ListenerProtocol;

use super::{
    caller::{self, InboundCaller},
    connection::PeerConnection,
    tcp::{self, Opening},
};
use crate::{
    forward::{
        self,
        caller::Caller,
        http2::{Spare, request},
    },
    http2::{Session, Settings, settings::LONG_FRAME},
    io::{Buffer, Transport},
    message::{RequestHead, refusal::Refusal},
    runtime::life::Life,
    upstream::multiplexed::HTTP1_PROTOCOL,
};

/// Serves a connection of HTTP/2.
pub(super) async fn serve(connection: Rc<PeerConnection>, stream: Transport, life: Life, is_svidecar: bool) {
    let (settings, follower) = (connection.settings(is_svidecar), connection.follower());
    let protocol = connection.protocol();
    let caller = Rc::new(InboundCaller::new(Rc::clone(&connection), None));
    let spare = Rc::<Spare>::default();
    let driven = Rc::clone(&caller) as Rc<dyn Caller>;
    let accept = |session: &Session, head: RequestHead, stream: crate::http2::Stream| {
        let is_tunnel = head.protocol.is_empty() || (is_svidecar && head.protocol == HTTP1_PROTOCOL);
        if head.method == "CONNECT" && is_tunnel && !stream.is_too_large() {
            return tunnel(&connection, &life, &head, stream);
        }
        if protocol == ListenerProtocol::Tcp {
            let detail = "a request of HTTP came to a listener of TCP";
            let refusal = Refusal::new(Code::NotImplemented, detail);
            return Opening::Asked(stream).refuse(&refusal);
        }
        let fresh = Rc::clone(&connection);
        connection.worker.spawn(request(
            Rc::clone(&caller) as Rc<dyn Caller>,
            session.clone(),
            Rc::clone(&spare),
            head,
            stream,
            move || fresh.exchange(),
        ));
    };
    forward::http2::serve(driven, &settings, stream, Buffer::new(), follower, accept).await;
}

/// One connection inside of the shared one.
fn tunnel(connection: &Rc<PeerConnection>, life: &Life, head: &RequestHead, stream: crate::http2::Stream) {
    let opening = Opening::Asked(stream);
    let Some(life) = life.another() else {
        let detail = "the listener has as many connections as it may";
        let refusal = Refusal::new(Code::TooManyConnections, detail);
        return opening.refuse(&refusal);
    };
    let this = Rc::clone(connection);
    match (connection.protocol(), head.protocol.is_empty()) {
        (ListenerProtocol::Tcp, true) => connection.worker.spawn(tcp::serve(this, opening, life)),
        (ListenerProtocol::Http, false) => {
            connection.worker.spawn(async move { caller::serve(this, opening.accept(), life).await });
        }
        (ListenerProtocol::Http, true) => {
            // Whoever tunnels bytes to a listener of HTTP speaks HTTP inside, of either version.
            let (follower, fresh) = (connection.follower(), Rc::clone(connection));
            let caller = Rc::new(InboundCaller::new(this, Some(life)));
            let stream = opening.accept();
            connection.worker.spawn(async move {
                forward::either::serve(caller, stream, follower, move || fresh.exchange()).await;
            });
        }
        (ListenerProtocol::Tcp, false) => {
            let detail = "a connection of HTTP/1.1 came to a listener of TCP";
            opening.refuse(&Refusal::new(Code::NotImplemented, detail));
        }
    }
}

impl PeerConnection {
    /// What a shared connection of this peer may do.
    fn settings(&self, is_svidecar: bool) -> Settings {
        let limits = &self.rules().listener.settings.limits;
        let defaults = Settings::default();
        Settings {
            // Its streams are connections, which have a limit of their own.
            max_streams: if is_svidecar { limits.max_connections } else { defaults.max_streams },
            max_header_bytes: u32::try_from(limits.max_header_bytes.as_usize()).unwrap_or(u32::MAX),
            max_headers: u32::from(limits.max_headers),
            // The one protocol that streams may be opened for is ours; see `upstream::multiplexed`.
            connect_protocol: is_svidecar,
            max_frame: if is_svidecar { LONG_FRAME } else { defaults.max_frame },
            ..defaults
        }
    }
}
