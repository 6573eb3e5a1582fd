//! A connection to a peer that many callers use at a time: HTTP/2, and between two svidecars also TCP and HTTP/1.1 in
//! streams of it.
//!
//! One task drives it. When its server would not be accepted any more, or its SVID ends, it takes nothing new.

use std::{
    future::poll_fn,
    rc::{Rc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use http::StatusCode;
use tokio::time::Instant;
use tracing::{debug, info};

use super::{connect::Offer, facts::ConnectionFacts, pool::Pool};
use crate::{
    codes,
    connections::{Ending, Event, Fate, LOSER_GRACE, Lifeline, Over},
    drain::Direction,
    http2::{OpenError, Role, Session, Settings, Tunnel, settings::LONG_FRAME},
    io::Stream,
    message::RequestHead,
    refusal::Refusal,
    worker::Worker,
};

/// How often streams are looked at whose readers give them no room.
const STALL: Duration = Duration::from_secs(30);

/// What a stream of a connection between two svidecars carries, besides requests of HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// A connection of HTTP/1.1, byte by byte (extended CONNECT, RFC 8441).
    Http1,
    /// A connection of any protocol (CONNECT, as in HBONE).
    Bytes,
}

/// The `:protocol` of a stream that carries HTTP/1.1.
pub const HTTP1_PROTOCOL: &str = "http/1.1";

/// A handle to a shared connection.
#[derive(Clone)]
pub struct Shared {
    /// Its streams.
    pub session: Session,
    /// What is known of it.
    pub facts: Rc<ConnectionFacts>,
    /// The other end is a svidecar.
    is_svidecar: bool,
}

impl Shared {
    /// Begins HTTP/2 on a connection. The worker drives it from now on. `pool` is where streams of it wait that carry
    /// HTTP/1.1.
    #[must_use]
    pub fn start(
        worker: &Rc<Worker>,
        stream: Stream,
        facts: Rc<ConnectionFacts>,
        pool: &Rc<Pool>,
        is_svidecar: bool,
    ) -> Self {
        let spec = &facts.spec;
        let settings = Settings {
            max_header_bytes: u32::try_from(spec.max_header_bytes).unwrap_or(u32::MAX),
            max_headers: u32::try_from(spec.max_headers).unwrap_or(u32::MAX),
            max_frame: if is_svidecar { LONG_FRAME } else { Settings::default().max_frame },
            ..Settings::default()
        };
        let session = Session::new(Role::Client, &settings);
        let mut lifeline = worker.lifeline(Direction::Outbound);
        if let Some(left) = facts.time_left() {
            lifeline.expire_after(left);
        }
        let this = Self { session, facts, is_svidecar };
        worker.spawn(drive(Rc::clone(worker), this.clone(), Rc::downgrade(pool), stream, lifeline));
        this
    }

    /// Whether one more stream may be opened for that purpose.
    #[must_use]
    pub fn has_room_for(&self, offer: Offer) -> bool {
        (self.is_svidecar || offer == Offer::Http2 || offer == Offer::Hbone) && self.session.can_open()
    }

    /// Opens a stream that carries bytes. Bytes may be written at once.
    ///
    /// # Errors
    /// The connection takes no more streams.
    pub fn open(&self, carries: Carries) -> Result<Stream, Refusal> {
        let mut head = RequestHead { method: "CONNECT".to_owned(), ..RequestHead::default() };
        head.authority = self.facts.endpoint.to_string();
        if carries == Carries::Http1 {
            head.protocol = HTTP1_PROTOCOL.to_owned();
            head.scheme = "https".to_owned();
            head.target = "/".to_owned();
        }
        match self.session.open(&head, false) {
            Ok(stream) => Ok(Stream::from(Tunnel::connecting(stream))),
            Err(error) => {
                let detail =
                    format!("`{}` at {} takes no stream: {error}", self.facts.spec.name, self.facts.address);
                Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, codes::UPSTREAM_FAILED, detail))
            }
        }
    }
}

/// Drives the connection until its last stream has ended, it is idle for too long, or it is cut.
async fn drive(
    worker: Rc<Worker>,
    shared: Shared,
    pool: Weak<Pool>,
    mut stream: Stream,
    mut lifeline: Lifeline,
) {
    let Shared { session, facts, .. } = &shared;
    let judge = |event| match event {
        Event::Changed if facts.objection(&worker).is_some() => {
            Fate::Finishes(Ending::NoLongerAllowed, Some(LOSER_GRACE))
        }
        Event::PeerExpired => {
            info!(upstream = %facts.spec.name, address = facts.address, "The server's SVID expires; its connection takes no new request");
            Fate::Finishes(Ending::PeerExpired, None)
        }
        Event::Changed | Event::Draining => Fate::GoesOn,
    };
    let (mut was, mut is_told) = (None, false);
    let end = poll_fn(|cx: &mut Context<'_>| {
        loop {
            if let Poll::Ready(end) = session.poll_drive(cx, &mut stream) {
                return Poll::Ready(end.map_err(|error| error.to_string()));
            }
            let is_idle = session.active_streams() == 0;
            if was.replace(is_idle) != Some(is_idle) {
                let timeout = if is_idle { facts.spec.idle_timeout } else { STALL };
                lifeline.set_timer(Instant::now().checked_add(timeout));
            }
            let over = lifeline.poll_over(cx, judge);
            let is_sent_away = session.obstacle() == Some(OpenError::GoingAway);
            let is_over = lifeline.is_finishing() || facts.is_retired() || is_sent_away;
            match over {
                Poll::Ready(Over::Cut(ending)) => return Poll::Ready(Err(ending.code().to_owned())),
                Poll::Ready(Over::TimedOut) if !is_idle => {
                    session.tend();
                    was = None;
                    continue;
                }
                Poll::Pending if !is_over => return Poll::Pending,
                Poll::Ready(Over::TimedOut) | Poll::Pending => {}
            }
            if std::mem::replace(&mut is_told, true) {
                return Poll::Pending;
            }
            facts.retire();
            // What tells the other side is yet to be written; and it waits for the streams that wait for a request.
            session.shutdown();
            if let Some(pool) = pool.upgrade() {
                pool.close_retired();
            }
        }
    })
    .await;
    facts.retire();
    if let Err(error) = end {
        debug!(upstream = %facts.spec.name, address = facts.address, error, "A shared connection failed");
    }
    session.close();
}
