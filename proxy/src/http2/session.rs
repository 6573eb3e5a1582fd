//! A connection as tasks share it, and the turn of the one that drives it.
//!
//! In a turn the driver writes what all streams have left in one go, then reads what has come; those who are woken by that
//! write first, and the driver, which comes after them in the run queue, writes for all of them in its next turn. Never
//! looks into a frame.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use super::{
    ConnectionError, OpenError, Role, Settings, connection::Connection, error::Violation, patience::Pool,
};
use crate::{
    io::{Buffer, ByteStream, FLIGHT},
    message::RequestHead,
};

/// What is read in one turn, in octets; then those who were woken by it have theirs.
const READ_TURN: usize = FLIGHT;

/// How often [`Session::tend`] wants to be called. Who gets no room from one look to the one after the next is not served any
/// more: after 2.5 to 5 minutes, the latter as in Envoy.
pub const TEND_EVERY: Duration = Duration::from_secs(150);

/// How often [`Session::probe`] wants to be called. A peer that says nothing from one look to the one after the next is gone: its
/// network was cut, and nobody closed the connection.
pub const PROBE_EVERY: Duration = Duration::from_secs(8);

/// What a stream costs at least, in octets: its task, its exchange, and the connection to an upstream that it keeps.
const OF_A_STREAM: usize = 16 << 10;

/// What our PING says when it asks for a sign of life.
const ARE_YOU_THERE: [u8; 8] = *b"are you?";

/// How long a peer is not read that makes us work for nothing, and how often one is told what it bears only now and then.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection; cheap to clone.
#[derive(Clone)]
pub struct Session(pub(super) Rc<RefCell<Inner>>);

/// What a [`Session`] shares.
pub(super) struct Inner {
    pub connection: Connection,
    /// The beginning of a frame that is not complete.
    input: Buffer,
    /// The transport has taken octets that it may not have handed on.
    unflushed: bool,
    /// Ends a pause of the connection.
    pause: Option<Pin<Box<Sleep>>>,
    pub pulse: Pulse,
}

/// What is known of the peer since the last look, or since it was asked for something after nothing ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    /// It said something.
    Heard,
    /// It said nothing.
    Quiet,
    /// It was asked, and said nothing.
    Asked,
}

/// What a connection is busy with: what its timeouts depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// The peer is in the middle of its preface, or of a frame of a head.
    Head,
    /// Streams run.
    Busy,
    /// Nothing runs.
    Idle,
    /// It is over; the last that the peer is told waits for it.
    Closing,
}

impl Session {
    /// A connection at its start. Nothing moves before [`Self::poll_drive`] is called.
    #[must_use]
    pub fn new(role: Role, settings: &Settings) -> Self {
        let connection = Connection::new(role, settings);
        Self(Rc::new(RefCell::new(Inner {
            connection,
            input: Buffer::new(),
            unflushed: false,
            pause: None,
            pulse: Pulse::Heard,
        })))
    }

    /// Takes octets that came before anybody knew that they are HTTP/2.
    pub fn resume(&self, read: Buffer) {
        let mut inner = self.0.borrow_mut();
        inner.input = read;
        inner.take();
    }

    /// Moves octets between the connection and its transport, until the connection is over. Called by one task, the
    /// driver; server sessions are asked for requests by [`Self::accept`] after each call.
    ///
    /// # Errors
    /// Why the connection is over, unless it came to a regular end. What had to be said to the peer was said.
    pub fn poll_drive<S: ByteStream>(
        &self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<Result<(), ConnectionError>> {
        let mut inner = self.0.borrow_mut();
        inner.connection.begin_turn(cx.waker());
        let over = inner.turn(cx, stream);
        if let Poll::Ready(result) = &over {
            let error = result.as_ref().err().cloned().unwrap_or(ConnectionError::Closed);
            inner.connection.fail(error);
        }
        inner.connection.end_turn();
        over
    }

    /// Whether [`Self::open`] would succeed.
    #[must_use]
    pub fn can_open(&self) -> bool {
        self.obstacle().is_none()
    }

    /// Why [`Self::open`] would not succeed.
    #[must_use]
    pub fn obstacle(&self) -> Option<OpenError> {
        self.0.borrow().connection.obstacle()
    }

    /// Whether the peer has said what it allows. Until then [`Self::open`] opens streams that it may refuse.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.0.borrow().connection.is_settled()
    }

    /// How many streams are open.
    #[must_use]
    pub fn active_streams(&self) -> usize {
        self.0.borrow().connection.streams.open_count()
    }

    /// What the connection is busy with.
    #[must_use]
    pub fn activity(&self) -> Activity {
        let inner = self.0.borrow();
        if inner.connection.closed().is_some() {
            return Activity::Closing;
        }
        // Data is taken as it comes: what stays behind is the beginning of another frame, or has to wait for us.
        let waits = inner.connection.is_inside_head() || !inner.input.is_empty();
        if waits && !inner.connection.is_tired() && !inner.connection.is_behind() {
            Activity::Head
        } else if waits || inner.connection.is_busy() {
            Activity::Busy
        } else {
            Activity::Idle
        }
    }

    /// Octets that are kept because the frame or the head that they begin is not complete.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        let inner = self.0.borrow();
        let input = if inner.connection.is_behind() { 0 } else { inner.input.len() };
        input + inner.connection.partial_head()
    }

    /// About how many octets it costs to keep the connection as it is: what came and what goes, and its streams. Looks at all of these.
    #[must_use]
    pub fn held(&self) -> usize {
        let mut inner = self.0.borrow_mut();
        let unread: usize = inner.connection.streams.iter_open().map(|(_, slot)| slot.data.len()).sum();
        let streams = inner.connection.streams.open_count() * OF_A_STREAM;
        streams + unread + inner.connection.out.len() + inner.input.len()
    }

    /// The peer may have so many streams from now on, and its windows may grow by so much more, in octets.
    pub fn trust(&self, streams: u32, growth: u32) {
        self.0.borrow_mut().connection.trust(streams, growth);
    }

    /// What brings nobody anything is endured of all connections with that pool together.
    pub fn share(&self, pool: Arc<Pool>) {
        self.0.borrow_mut().connection.share(pool);
    }

    /// Ends the connection with a peer that costs too much; `why` is what it is told.
    pub fn violated(&self, why: &'static str) {
        self.0.borrow_mut().connection.violated(Violation::flood(why));
    }

    /// A number that changes with each head that is complete and with each frame of data: where the peer is in the middle of
    /// something each time one looks, it tells a busy one from a slow one.
    #[must_use]
    pub fn progress(&self) -> u32 {
        self.0.borrow().connection.progress
    }

    /// Begins a regular end: no new streams, the running ones go on, and after the last one [`Self::poll_drive`] is done.
    pub fn shutdown(&self) {
        self.0.borrow_mut().connection.shut_down();
    }

    /// Ends all streams at once. For drivers that end on their own account: [`Self::poll_drive`] does it itself.
    pub fn close(&self) {
        self.0.borrow_mut().connection.fail(ConnectionError::Closed);
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.borrow().connection.closed().is_some()
    }

    /// Ends the streams whose peer gave them no room to write since the last call; called each [`TEND_EVERY`] while streams
    /// run. A tunnel may wait for as long as the connection could that it stands for. Returns how many were ended.
    pub fn tend(&self) -> usize {
        self.0.borrow_mut().connection.reset_stalled()
    }

    /// Whether the peer said something after it was asked for what runs, or ran last.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.0.borrow().pulse == Pulse::Heard
    }

    /// Asks a peer that has said nothing since the last call, or since the first stream was opened, whether it is there, and
    /// ends the connection with one that did not answer; called each [`PROBE_EVERY`] while streams run, toward peers
    /// that take it well (servers of gRPC do not).
    pub fn probe(&self) {
        let mut inner = self.0.borrow_mut();
        inner.pulse = match inner.pulse {
            Pulse::Heard => Pulse::Quiet,
            Pulse::Quiet => {
                inner.connection.ask(&ARE_YOU_THERE);
                Pulse::Asked
            }
            Pulse::Asked => {
                let silence = format!("no sign of life for {} s", 2 * PROBE_EVERY.as_secs());
                inner.connection.fail(failed(io::Error::new(io::ErrorKind::TimedOut, silence)));
                Pulse::Asked
            }
        };
    }

    /// Gives back a head from [`Self::accept`], so that its memory serves the next request.
    pub fn recycle(&self, head: RequestHead) {
        self.0.borrow_mut().connection.recycle_request(head);
    }
}

impl Inner {
    fn turn<S: ByteStream>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<Result<(), ConnectionError>> {
        let mut flushed = self.poll_flush(cx, stream)?;
        if self.connection.is_pausing() {
            self.poll_pause(cx);
        }
        let mut left = READ_TURN;
        if self.connection.is_behind() && self.may_take() {
            self.take();
        }
        while self.may_take() {
            if left == 0 || self.connection.is_turn_over() {
                cx.waker().wake_by_ref();
                break;
            }
            let Poll::Ready(count) = stream.poll_fill(cx, &mut self.input, left).map_err(failed)? else {
                break;
            };
            left = left.saturating_sub(count);
            self.pulse = Pulse::Heard;
            if count == 0 {
                let inside = !self.input.is_empty() || self.connection.is_inside_head();
                self.connection.peer_closed(inside);
            } else {
                self.take();
            }
        }
        if self.connection.is_pausing() {
            self.poll_pause(cx);
        }
        if self.connection.closed().is_none()
            && self.connection.is_stuck()
            && stream.poll_ended(cx).is_ready()
        {
            // A client that reads nothing and is gone. A server's last words may wait unread.
            self.connection.peer_closed(true);
        }
        if !self.connection.out.is_empty() {
            if self.connection.woken && self.connection.closed().is_none() {
                // Those who were woken write first, and all of it leaves together.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            flushed = self.poll_flush(cx, stream)?;
        }
        if self.connection.wake_line() {
            cx.waker().wake_by_ref();
        }
        self.poll_end(cx, stream, flushed)
    }

    /// The end of the turn, and perhaps of the connection.
    fn poll_end<S: ByteStream>(
        &self,
        cx: &mut Context<'_>,
        stream: &mut S,
        flushed: Poll<()>,
    ) -> Poll<Result<(), ConnectionError>> {
        let closed = self.connection.closed();
        if closed.is_none() && !self.connection.is_finished() {
            return Poll::Pending;
        }
        if !matches!(closed, Some(ConnectionError::Cut | ConnectionError::GoAway { .. })) {
            ready!(flushed);
            // Whoever went first does not hear it; nothing is lost by that.
            let _ = ready!(stream.poll_shutdown(cx));
        }
        Poll::Ready(match closed {
            None | Some(ConnectionError::Closed) => Ok(()),
            Some(error) => Err(error.clone()),
        })
    }

    /// Whether frames of the peer are taken now.
    fn may_take(&self) -> bool {
        self.connection.closed().is_none() && !self.connection.is_congested() && !self.connection.is_tired()
    }

    /// Takes what has come, as far as there is time.
    fn take(&mut self) {
        if let Err(violation) = self.connection.receive(&mut self.input) {
            self.connection.violated(violation);
        }
    }

    /// Where the connection pauses, sees to it that it goes on.
    #[cold]
    fn poll_pause(&mut self, cx: &mut Context<'_>) {
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(PAUSE)));
        if pause.as_mut().poll(cx).is_pending() {
            return;
        }
        self.pause = None;
        if self.connection.is_tired() {
            self.connection.rested();
            self.take();
        }
        // Another turn sees what is still to wait for.
        cx.waker().wake_by_ref();
    }

    /// Hands everything on that waits. `Pending` if the transport takes no more now.
    fn poll_flush<S: ByteStream>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Result<Poll<()>, ConnectionError> {
        while !self.connection.out.is_empty() {
            match self.connection.out.poll_hand_on(|octets| stream.poll_write(cx, octets)).map_err(failed)? {
                Poll::Ready(0) => return Err(failed(io::ErrorKind::WriteZero.into())),
                Poll::Ready(_) => {}
                Poll::Pending => break,
            }
            self.unflushed = true;
        }
        if self.unflushed {
            self.unflushed = stream.poll_flush(cx).map_err(failed)?.is_pending();
        }
        let done = self.connection.out.is_empty() && !self.unflushed;
        Ok(if done { Poll::Ready(()) } else { Poll::Pending })
    }
}

fn failed(error: io::Error) -> ConnectionError {
    ConnectionError::Io(Rc::new(error))
}
