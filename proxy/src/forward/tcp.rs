//! A TCP connection, of its own or in a stream of a shared one: admitted once, connected to the upstream, then bytes both
//! ways.

use std::rc::Rc;

use http::StatusCode;
use svidecar_code::Code;
use svidecar_process::{clock, throttle::Leave};
use tracing::{field::display, info, warn};

use super::{
    exchange::{note_relay, note_upstream},
    incoming::Incoming,
    relay::{Broken, Relay},
    rules::Rules,
};
use crate::{
    admit::Subject,
    http2::Tunnel,
    io::{ByteStream, Transport},
    message::{ResponseHead, Version, refusal::Refusal},
    record::Recording,
    runtime::{
        connections::{Ending, Fate, LOSER_GRACE},
        drain::Direction,
        life::Life,
    },
    upstream::facts::ConnectionFacts,
};

/// Serves a connection from the first byte to the last.
pub(super) async fn serve(incoming: Rc<Incoming>, opening: Opening, life: Life) {
    // From before the decision, so that no change between it and the first byte is missed.
    let mut follower = incoming.follower();
    let rules = incoming.rules();
    let mut record = Recording::new(&incoming.worker().recorder, &rules.origin);
    record.begin_connection(&rules.origin, clock::monotonic());
    let Some((mut relay, facts)) = open(&incoming, rules, opening, &life, &mut record).await else { return };
    if let Some(left) = facts.time_left() {
        follower.expire_after(left);
    }
    let judge = |event| incoming.judge(event, Some(&facts), |rules| incoming.decide_again(rules));
    let end = relay.run(|cx, _| follower.poll_over(cx, judge).map(|over| over.ending().code())).await;
    if matches!(&end, Err(Broken::Failed(failure)) if failure.code == Code::ClientClosed) {
        incoming.gave_up(&facts);
    }
    note_relay(&mut record, &relay, end);
}

/// Joins both ends when it may pass and the upstream is reached, whose ID is checked before a byte leaves; else the other
/// side is told.
async fn open(
    incoming: &Incoming,
    rules: Rc<Rules>,
    opening: Opening,
    life: &Life,
    record: &mut Recording,
) -> Option<(Relay, Rc<ConnectionFacts>)> {
    if let Err(refusal) = rules.row.admit(&incoming.party, Subject::Connection(life.standing()), record).await
    {
        opening.deny(&refusal);
        return None;
    }
    if let Some(pause) = incoming.pause() {
        Box::pin(tokio::time::sleep(pause)).await;
    }
    match Box::pin(rules.upstream.bytes(incoming.worker())).await {
        Ok((upstream, facts)) => {
            note_upstream(record, &facts);
            Some((Relay::new(opening.accept(), upstream), facts))
        }
        Err(refusal) => {
            incoming.cannot_reach(&rules, &refusal);
            opening.refuse(&refusal);
            record.fail(refusal.code, Some(refusal.detail));
            None
        }
    }
}

impl Incoming {
    /// Whether a TCP connection goes on by the rules of now.
    fn decide_again(&self, rules: &Rules) -> Fate {
        if rules.row.still_allows(&self.party) {
            return Fate::GoesOn;
        }
        let (listener, peer) = (rules.listener.name(), self.party.id().map(display));
        info!(%listener, peer, "A live connection is no longer allowed; closing it");
        Fate::Finishes(Ending::NoLongerAllowed, Some(LOSER_GRACE))
    }

    fn cannot_reach(&self, rules: &Rules, refusal: &Refusal) {
        let Some(Leave { kept_back }) = self.worker().shared.throttle.leave(clock::monotonic()) else {
            return;
        };
        let (listener, code, error) = (rules.listener.name(), refusal.code.name(), &refusal.detail);
        match rules.listener.direction() {
            Direction::Inbound => {
                warn!(%listener, code, error, kept_back, "Cannot reach the app; resetting the peer's connection");
            }
            Direction::Outbound => {
                warn!(%listener, code, error, kept_back, "Cannot reach the upstream; resetting the workload's connection");
            }
        }
    }
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

    /// It may not pass. Whoever has a connection of its own is told by its end.
    pub(super) fn deny(self, refusal: &Refusal) {
        if matches!(self, Self::Asked(_)) {
            self.refuse(refusal);
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
