//! A TCP connection from a peer, of its own or in a stream of a shared one.

use std::{rc::Rc, time::Instant};

use http::StatusCode;
use svidecar_code::Code;
use tracing::warn;

use super::connection::PeerConnection;
use crate::{
    admit::decide,
    forward::{
        exchange::{note_relay, note_upstream},
        relay::Relay,
    },
    http2::Tunnel,
    io::{ByteStream, Transport},
    message::{ResponseHead, Version, refusal::Refusal},
    record::{self},
    runtime::{connections::Over, life::Life, throttle::Leave},
};

/// A TCP connection: decided once, connected to the app first, then bytes both ways.
pub(super) async fn serve(connection: Rc<PeerConnection>, opening: Opening, _life: Life) {
    let worker = &connection.worker;
    // From before the decision, so that no change between it and the first byte is missed.
    let mut follower = connection.follower();
    let (listener, origin, app) = connection.now();
    let mut record = record::Recording::new(&worker.recorder, &origin);
    record.begin_connection(&origin, Instant::now());
    let decision = decide::connection(&listener.policy, connection.peer.id());
    record.decided(&decision);
    if !decision.is_allowed() {
        connection.denied(&listener, decision.rule_name());
        record.fail(Code::DeniedByRule, None);
        return opening.deny();
    }
    let (to_app, facts) = match Box::pin(app.bytes(worker)).await {
        Ok(connected) => connected,
        Err(refusal) => {
            if let Some(Leave { kept_back }) = worker.shared.throttle.leave(Instant::now()) {
                warn!(listener = %listener.name, code = refusal.code.name(), error = refusal.detail, kept_back, "Cannot reach the app; resetting the peer's connection");
            }
            record.fail(refusal.code, Some(refusal.detail.clone()));
            return opening.refuse(&refusal);
        }
    };
    note_upstream(&mut record, &facts);
    let mut relay = Relay::new(opening.accept(), to_app);
    let end =
        relay.run(|cx| follower.poll_over(cx, |event| connection.judge_tcp(event)).map(Over::ending)).await;
    note_relay(&mut record, &relay, end);
}

/// A connection of bytes that is yet to be accepted.
pub(super) enum Opening {
    /// It is there already.
    Open(Transport),
    /// A stream that waits for the answer to its CONNECT.
    Asked(crate::http2::Stream),
}

impl Opening {
    /// Opens it.
    pub(super) fn accept(self) -> Transport {
        match self {
            Self::Open(stream) => stream,
            Self::Asked(mut stream) => {
                let status = StatusCode::OK.as_u16();
                let head = ResponseHead { version: Version::Http2, status, ..ResponseHead::default() };
                stream.send_response_head(&head, false);
                Transport::from(Tunnel::new(stream))
            }
        }
    }

    /// The policy denies it. Whoever has a connection of its own is told by its end.
    pub(super) fn deny(self) {
        if matches!(self, Self::Asked(_)) {
            self.refuse(&Refusal::new(Code::DeniedByRule, ""));
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
