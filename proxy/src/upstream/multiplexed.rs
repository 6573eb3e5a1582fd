//! A connection to a peer that many callers use at a time: HTTP/2, and between two svidecars also TCP and HTTP/1.1 in
//! streams of it.
//!
//! One task drives it. When its server would not be accepted any more, or its SVID ends, or we are not who we were to it, it
//! takes nothing new.

use std::{
    future::{Future, poll_fn},
    rc::{Rc, Weak},
};

use svidecar_code::Code;
use tokio::sync::Notify;
use tracing::{debug, info};

use super::{connect::Offer, facts::ConnectionFacts, pool::Pool};
use crate::{
    http2::{OpenError, Role, Session, Settings, StreamError, Tunnel, settings::LONG_FRAME},
    io::Transport,
    message::{
        RequestHead, ResponseHead,
        refusal::{ERROR_HEADER, Refusal},
    },
    runtime::{
        connections::{Ending, Event, Fate, Follower, LOSER_GRACE},
        drain::Direction,
        driver::{Driven, Terms, drive},
        worker::Worker,
    },
};

/// The longest code of another proxy that we repeat, in bytes.
const MAX_CODE: usize = 64;

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

/// A handle to such a connection.
#[derive(Clone)]
pub struct Multiplexed {
    /// Its streams.
    pub session: Session,
    /// What is known of it.
    pub facts: Rc<ConnectionFacts>,
    /// The other end is a svidecar.
    is_svidecar: bool,
    /// For those who wait until the other end has said how many streams it allows.
    settled: Rc<Notify>,
}

impl Multiplexed {
    /// Begins HTTP/2 on a connection. The worker drives it from now on. `pool` is where streams of it wait that carry
    /// HTTP/1.1.
    #[must_use]
    pub fn start(
        worker: &Rc<Worker>,
        stream: Transport,
        facts: Rc<ConnectionFacts>,
        pool: &Rc<Pool>,
        is_svidecar: bool,
    ) -> Self {
        let spec = &facts.spec;
        let settings = Settings {
            max_header_bytes: u32::try_from(spec.max_header_bytes).unwrap_or(u32::MAX),
            max_headers: u32::try_from(spec.max_headers).unwrap_or(u32::MAX),
            max_frame: if is_svidecar { LONG_FRAME } else { Settings::default().max_frame },
            // One of us only slows down whoever resets much.
            few_resets: !is_svidecar,
            ..Settings::default()
        };
        let session = Session::new(Role::Client, &settings);
        let mut follower = worker.follower(Direction::Outbound).since(facts.accepted_by());
        if let Some(left) = facts.time_left() {
            follower.expire_after(left);
        }
        let this = Self { session, facts, is_svidecar, settled: Rc::default() };
        worker.spawn(keep(Rc::clone(worker), this.clone(), Rc::downgrade(pool), stream, follower));
        this
    }

    /// Whether it can carry streams for that purpose.
    fn carries(&self, offer: Offer) -> bool {
        self.is_svidecar || offer == Offer::Http2 || offer == Offer::Hbone
    }

    /// Whether one more stream may be opened for that purpose. Until the other end has said how many it allows, that is
    /// one: it would refuse what is too much, and not everything can be sent again.
    #[must_use]
    pub fn has_room_for(&self, offer: Offer) -> bool {
        self.carries(offer)
            && self.session.can_open()
            && (self.session.is_settled() || self.session.active_streams() == 0)
    }

    /// Where it may have room for that purpose once the other end has said how much: ready when it did, or the connection
    /// has ended.
    #[must_use]
    pub fn settling(&self, offer: Offer) -> Option<impl Future<Output = ()> + use<>> {
        let waits = self.carries(offer) && self.session.can_open() && !self.session.is_settled();
        let settled = Rc::clone(&self.settled);
        waits.then_some(async move { settled.notified().await })
    }

    /// Opens a stream that carries bytes. Bytes may be written at once.
    ///
    /// # Errors
    /// The connection takes no more streams.
    pub fn open(&self, carries: Carries) -> Result<Transport, Refusal> {
        let mut head = RequestHead { method: "CONNECT".to_owned(), ..RequestHead::default() };
        head.authority = self.facts.name.to_string();
        if carries == Carries::Http1 {
            head.protocol = HTTP1_PROTOCOL.to_owned();
            head.scheme = "https".to_owned();
            head.target = "/".to_owned();
        }
        let stream = self.session.open(&head, false).map_err(|error| self.no_stream(&error))?;
        Ok(Transport::from(Tunnel::connecting(stream)))
    }

    /// Opens a stream of HBONE to `destination`, and waits until the other end agrees. `None`: it did not look at it.
    ///
    /// # Errors
    /// What the other end says instead.
    pub async fn tunnel(&self, destination: &str) -> Result<Option<Transport>, Refusal> {
        let head = RequestHead {
            method: "CONNECT".to_owned(),
            authority: destination.to_owned(),
            ..RequestHead::default()
        };
        let mut stream = self.session.open(&head, false).map_err(|error| self.no_stream(&error))?;
        let mut answer = ResponseHead { status: 100, ..ResponseHead::default() };
        let answered = async {
            while answer.is_interim() {
                poll_fn(|cx| stream.poll_response_head(cx, &mut answer)).await?;
            }
            Ok(())
        };
        let whose = format!("`{}` at {}", self.facts.spec.name, self.facts.address);
        let timeout = self.facts.spec.connect_timeout;
        let (code, what) = match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(())) if (200..300).contains(&answer.status) => {
                return Ok(Some(Transport::from(Tunnel::new(stream))));
            }
            Ok(Ok(())) => {
                let said = answer.fields.get(ERROR_HEADER).and_then(plain_code);
                let said = said.map(|code| format!(" ({code})")).unwrap_or_default();
                (Code::TunnelRefused, format!("with status {}{said}", answer.status))
            }
            Ok(Err(StreamError::Unprocessed)) => return Ok(None),
            Ok(Err(error)) => (Code::TunnelRefused, format!("with an error: {error}")),
            Err(_) => {
                let what = format!("with nothing within {timeout:?}");
                (Code::UpstreamConnectTimeout, what)
            }
        };
        Err(Refusal::new(code, format!("{whose} answered CONNECT {destination} {what}")))
    }

    fn no_stream(&self, error: &OpenError) -> Refusal {
        let detail = format!("`{}` at {} takes no stream: {error}", self.facts.spec.name, self.facts.address);
        Refusal::new(Code::UpstreamUnreachable, detail)
    }
}

/// What another proxy calls its reason, if it is short and plain enough for our log.
fn plain_code(value: &[u8]) -> Option<&str> {
    let is_plain = value.len() <= MAX_CODE && value.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(value).ok().filter(|code| is_plain && !code.is_empty())
}

/// Drives the connection until its last stream has ended, it is idle for too long, or it is cut.
async fn keep(
    worker: Rc<Worker>,
    connection: Multiplexed,
    pool: Weak<Pool>,
    mut stream: Transport,
    mut follower: Follower,
) {
    let Multiplexed { session, facts, settled, is_svidecar } = &connection;
    let terms = Terms::Client { idle: facts.spec.idle_timeout, probes: *is_svidecar };
    let mut kept = Kept { worker: &worker, connection: &connection, pool, is_settled: false };
    let end = drive(session, &mut stream, &mut follower, terms, &mut kept).await;
    facts.retire();
    if let Err(error) = end {
        debug!(upstream = %facts.spec.name, address = facts.address, error = error.to_string(), "A shared connection failed");
    }
    settled.notify_waiters();
}

/// A connection as its driver sees it.
struct Kept<'k> {
    worker: &'k Worker,
    connection: &'k Multiplexed,
    pool: Weak<Pool>,
    is_settled: bool,
}

impl Driven for Kept<'_> {
    fn turned(&mut self, session: &Session) {
        if !self.is_settled && session.is_settled() {
            self.is_settled = true;
            self.connection.settled.notify_waiters();
        }
    }

    fn judge(&mut self, event: Event) -> Fate {
        let facts = &self.connection.facts;
        match event {
            Event::Changed => match facts.objection(self.worker) {
                Some(ending) => Fate::Finishes(ending, Some(LOSER_GRACE)),
                None => Fate::GoesOn,
            },
            Event::PeerExpired => {
                info!(upstream = %facts.spec.name, address = facts.address, "The server's SVID expires; its connection takes no new request");
                Fate::Finishes(Ending::PeerExpired, None)
            }
            // One connection, that all callers of a worker share, is no crowd.
            Event::Draining | Event::Crowded | Event::Weighed => Fate::GoesOn,
        }
    }

    fn is_leaving(&self, session: &Session) -> bool {
        self.connection.facts.is_retired() || session.obstacle() == Some(OpenError::GoingAway)
    }

    fn told(&mut self) {
        self.connection.facts.retire();
        // The end waits for the streams that wait for a request.
        if let Some(pool) = self.pool.upgrade() {
            pool.close_retired();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::keep;
    use crate::sizes::{any, hold, of};

    #[test]
    fn the_task_of_a_shared_connection_stays_small() {
        hold("a shared connection", of(|| keep(any(), any(), any(), any(), any())), 575);
    }
}
