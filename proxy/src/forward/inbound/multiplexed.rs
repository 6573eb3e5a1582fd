//! An inbound connection that carries many: requests of HTTP/2, and in streams of their own TCP connections (CONNECT, as in
//! HBONE) and, from another svidecar, connections of HTTP/1.1 (extended CONNECT, RFC 8441).

use std::rc::Rc;

use http::StatusCode;
use svidecar_config::proxy::ListenerProtocol;

use super::{InboundConnection, Link, serve_http, serve_tcp};
use crate::{
    codes,
    forward::{
        self,
        caller::Caller,
        http2::{Spare, request},
    },
    http2::{Session, Settings, Tunnel, settings::LONG_FRAME},
    io::{Buffer, ByteStream, Stream},
    message::{RequestHead, ResponseHead, Version, refusal::Refusal},
    runtime::accept::Life,
    upstream::shared::HTTP1_PROTOCOL,
};

/// Serves a connection of HTTP/2.
pub(super) async fn serve(link: Rc<Link>, stream: Stream, life: Life, is_svidecar: bool) {
    let (settings, lifeline) = (link.settings(is_svidecar), link.lifeline());
    let protocol = link.protocol();
    let caller = Rc::new(InboundConnection::new(Rc::clone(&link), None));
    let spare = Rc::<Spare>::default();
    let driven = Rc::clone(&caller) as Rc<dyn Caller>;
    let accept = |session: &Session, head: RequestHead, stream: crate::http2::Stream| {
        let is_tunnel = head.protocol.is_empty() || (is_svidecar && head.protocol == HTTP1_PROTOCOL);
        if head.method == "CONNECT" && is_tunnel && !stream.is_too_large() {
            return tunnel(&link, &life, &head, stream);
        }
        if protocol == ListenerProtocol::Tcp {
            let detail = "a request of HTTP came to a listener of TCP";
            let refusal = Refusal::new(StatusCode::NOT_IMPLEMENTED, codes::BAD_REQUEST, detail);
            return Opening::Asked(stream).refuse(&refusal);
        }
        let fresh = Rc::clone(&link);
        link.worker.spawn(request(
            Rc::clone(&caller) as Rc<dyn Caller>,
            session.clone(),
            Rc::clone(&spare),
            head,
            stream,
            move || fresh.exchange(),
        ));
    };
    forward::http2::serve(driven, &settings, stream, Buffer::new(), lifeline, accept).await;
}

/// One connection inside of the shared one.
fn tunnel(link: &Rc<Link>, life: &Life, head: &RequestHead, stream: crate::http2::Stream) {
    let opening = Opening::Asked(stream);
    let Some(life) = life.another() else {
        let detail = "the listener has as many connections as it may";
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, codes::TOO_MANY_CONNECTIONS, detail);
        return opening.refuse(&refusal);
    };
    let this = Rc::clone(link);
    match (link.protocol(), head.protocol.is_empty()) {
        (ListenerProtocol::Tcp, true) => link.worker.spawn(serve_tcp(this, opening, life)),
        (ListenerProtocol::Http, false) => {
            link.worker.spawn(async move { serve_http(this, opening.accept(), life).await });
        }
        (ListenerProtocol::Http, true) => {
            // Whoever tunnels bytes to a listener of HTTP speaks HTTP inside, of either version.
            let (lifeline, fresh) = (link.lifeline(), Rc::clone(link));
            let caller = Rc::new(InboundConnection::new(this, Some(life)));
            let stream = opening.accept();
            link.worker.spawn(async move {
                forward::either::serve(caller, stream, lifeline, move || fresh.exchange()).await;
            });
        }
        (ListenerProtocol::Tcp, false) => {
            let detail = "a connection of HTTP/1.1 came to a listener of TCP";
            opening.refuse(&Refusal::new(StatusCode::NOT_IMPLEMENTED, codes::BAD_REQUEST, detail));
        }
    }
}

/// A connection of bytes that is yet to be accepted.
pub(super) enum Opening {
    /// It is there already.
    Open(Stream),
    /// A stream that waits for the answer to its CONNECT.
    Asked(crate::http2::Stream),
}

impl Opening {
    /// Opens it.
    pub(super) fn accept(self) -> Stream {
        match self {
            Self::Open(stream) => stream,
            Self::Asked(mut stream) => {
                let status = StatusCode::OK.as_u16();
                let head = ResponseHead { version: Version::Http2, status, ..ResponseHead::default() };
                stream.send_response_head(&head, false);
                Stream::from(Tunnel::new(stream))
            }
        }
    }

    /// The policy denies it. Whoever has a connection of its own is told by its end.
    pub(super) fn deny(self) {
        if matches!(self, Self::Asked(_)) {
            self.refuse(&Refusal::new(StatusCode::FORBIDDEN, codes::DENIED_BY_RULE, ""));
        }
    }

    /// It cannot be served; the other side learns it as a failure.
    pub(super) fn refuse(self, refusal: &Refusal) {
        match self {
            Self::Open(mut stream) => stream.reset(),
            Self::Asked(mut stream) => {
                let mut head = ResponseHead::default();
                // The words are for people who speak HTTP.
                let _ = refusal.answer(Version::Http2, false, &mut head);
                head.fields.remove("content-length");
                stream.send_response_head(&head, true);
            }
        }
    }
}

impl Link {
    /// What a shared connection of this peer may do.
    fn settings(&self, is_svidecar: bool) -> Settings {
        let limits = &self.rules().listener.settings.limits;
        let defaults = Settings::default();
        Settings {
            // Its streams are connections, which have a limit of their own.
            max_streams: if is_svidecar { limits.max_connections } else { defaults.max_streams },
            max_header_bytes: u32::try_from(limits.max_header_bytes.as_usize()).unwrap_or(u32::MAX),
            max_headers: u32::from(limits.max_headers),
            // The one protocol that streams may be opened for is ours; see `upstream::shared`.
            connect_protocol: is_svidecar,
            max_frame: if is_svidecar { LONG_FRAME } else { defaults.max_frame },
            ..defaults
        }
    }
}
