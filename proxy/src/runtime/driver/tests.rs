use std::{
    cell::{Cell, RefCell},
    ops::Range,
    rc::Rc,
};

use svidecar_process::clock;
use tokio::{
    io::AsyncWriteExt as _,
    task::{JoinHandle, spawn_local},
};

use super::*;
use crate::{
    http2::{
        PREFACE, PROBE_EVERY, Role, Settings, Stream, TEND_EVERY,
        tests::support::{Pipe, Raw, body, connect, frame, pipe, request, response, send},
    },
    message::BodySink as _,
    runtime::{
        connections::tests::{LATE, Scene, with_registry},
        drain::{self, Direction},
    },
};

const HEAD: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);
const SERVER: Terms = Terms::Server { head: HEAD, idle: IDLE };
const CLIENT: Terms = Terms::Client { idle: IDLE, probes: true };

/// An end that keeps the streams that come, and notes what it is told.
#[derive(Clone, Default)]
struct Ours {
    streams: Rc<RefCell<Vec<Stream>>>,
    is_leaving: Rc<Cell<bool>>,
    told: Rc<Cell<u32>>,
}

impl Driven for Ours {
    fn turned(&mut self, session: &Session) {
        while let Some((_, stream)) = session.accept() {
            self.streams.borrow_mut().push(stream);
        }
    }

    fn judge(&mut self, event: Event) -> Fate {
        if event == Event::Draining { Fate::Finishes(Ending::Drained, None) } else { Fate::GoesOn }
    }

    fn is_leaving(&self, _: &Session) -> bool {
        self.is_leaving.get()
    }

    fn told(&mut self) {
        self.told.set(self.told.get() + 1);
    }
}

/// A connection whose one end the driver drives.
struct Driving {
    session: Session,
    ours: Ours,
    began: tokio::time::Instant,
    end: JoinHandle<Result<(), DriveError>>,
}

impl Driving {
    fn start(scene: &Scene, terms: Terms) -> (Self, Pipe) {
        let role = if matches!(terms, Terms::Server { .. }) { Role::Server } else { Role::Client };
        let (session, ours) = (Session::new(role, &Settings::default()), Ours::default());
        let mut follower = Follower::new(&scene.registry, Direction::Inbound);
        let (mut near, far) = pipe(64 << 10);
        let (this, mut driven) = (session.clone(), ours.clone());
        let end =
            spawn_local(async move { drive(&this, &mut near, &mut follower, terms, &mut driven).await });
        (Self { session, ours, began: clock::timer(), end }, far)
    }

    /// With a session at the other end, which stands still as soon as the cell says so.
    fn toward(scene: &Scene, terms: Terms) -> (Self, Session, Rc<Cell<bool>>) {
        let (this, mut far) = Self::start(scene, terms);
        let role = if matches!(terms, Terms::Server { .. }) { Role::Client } else { Role::Server };
        let (other, is_cut) = (Session::new(role, &Settings::default()), Rc::<Cell<bool>>::default());
        let (session, cut) = (other.clone(), Rc::clone(&is_cut));
        spawn_local(async move {
            poll_fn(|cx| if cut.get() { Poll::Pending } else { session.poll_drive(cx, &mut far) }).await
        });
        (this, other, is_cut)
    }

    /// How it ended, how often the other side was told, and that it took this long.
    async fn ends(self, after: Duration) -> (Result<(), DriveError>, u32) {
        let end = self.end.await.unwrap();
        let took = clock::timer() - self.began;
        assert!((after..after + LATE).contains(&took), "{took:?} {end:?}");
        assert!(self.session.is_closed());
        (end, self.ours.told.get())
    }

    /// A stream that has come.
    async fn taken(&self) -> Stream {
        loop {
            if let Some(stream) = self.ours.streams.borrow_mut().pop() {
                return stream;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_uses_ends_and_both_sides_know() {
    for terms in [SERVER, CLIENT] {
        with_registry(|scene| async move {
            let (ours, other, _) = Driving::toward(&scene, terms);
            assert!(matches!(ours.ends(IDLE).await, (Ok(()), 1)));
            assert!(other.is_closed());
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_hear_of_the_end_is_left() {
    with_registry(|scene| async move {
        let (ours, client, is_cut) = Driving::toward(&scene, SERVER);
        let asked = client.open(&request("GET", "/"), true).unwrap();
        drop(ours.taken().await);
        drop(asked);
        is_cut.set(true);
        assert!(matches!(ours.ends(IDLE + LAST_WORDS).await, (Err(DriveError::Unheard), 1)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_not_waited_for_as_one_that_rests() {
    with_registry(|scene| async move {
        let (ours, _far) = Driving::start(&scene, SERVER);
        assert!(matches!(ours.ends(HEAD).await, (Err(DriveError::Slow), 0)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_begins_one_head_after_the_other_is_not_slow_until_it_stops() {
    with_registry(|scene| async move {
        let (ours, mut far) = Driving::start(&scene, SERVER);
        let mut raw = Raw::silent_client(&Settings::default());
        let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
        let mut heads = Vec::new();
        let mut ends = Vec::new();
        for stream in [1, 3, 5, 7, 9] {
            // HEADERS with END_STREAM and END_HEADERS.
            heads.extend(frame(1, 5, stream, &raw.block(&fields)));
            ends.push(heads.len() - 1);
        }
        far.0.write_all(PREFACE).await.unwrap();
        far.0.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        let pause = HEAD * 2 / 3;
        let mut written = 0;
        for end in ends {
            // All but the last octet of the head.
            far.0.write_all(&heads[written..end]).await.unwrap();
            written = end;
            tokio::time::sleep(pause).await;
        }
        assert!(matches!(ours.ends(4 * pause + HEAD).await, (Err(DriveError::Slow), 0)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_finishes_after_an_event_and_after_a_reason_of_its_own() {
    for is_event in [true, false] {
        with_registry(|scene| async move {
            let (ours, client, _) = Driving::toward(&scene, SERVER);
            let mut asked = client.open(&request("GET", "/"), true).unwrap();
            let mut stream = ours.taken().await;
            if is_event {
                scene.phase.send_replace(drain::Phase::Inbound);
            } else {
                ours.ours.is_leaving.set(true);
            }
            tokio::time::sleep(IDLE).await;
            stream.send_response_head(&response(200), false);
            stream.end(None).unwrap();
            drop(stream);
            body(&mut asked).await.unwrap();
            assert!(matches!(ours.ends(IDLE).await, (Ok(()), 1)));
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_says_why() {
    with_registry(|scene| async move {
        let (ours, client, _) = Driving::toward(&scene, SERVER);
        let _asked = client.open(&request("GET", "/"), true).unwrap();
        let _stream = ours.taken().await;
        scene.phase.send_replace(drain::Phase::Force);
        assert!(matches!(ours.ends(Duration::ZERO).await, (Err(DriveError::Cut(Ending::Drained)), 0)));
    })
    .await;
}

/// A stream whose reader takes nothing is ended at the second look.
#[tokio::test(start_paused = true)]
async fn a_stream_that_stands_still_is_ended() {
    const WITHIN: Range<Duration> = TEND_EVERY..Duration::from_secs(301);
    with_registry(|scene| async move {
        let (ours, client, _) = Driving::toward(&scene, SERVER);
        let _unread = client.open(&request("GET", "/"), true).unwrap();
        let mut stream = ours.taken().await;
        stream.send_response_head(&response(200), false);
        let error = send(&mut stream, &[0; 2 << 20]).await.unwrap_err();
        let took = clock::timer() - ours.began;
        assert!(WITHIN.contains(&took), "{took:?} {error:?}");
        assert!(!ours.session.is_closed());
    })
    .await;
}

/// Each caller gives up before the time of a look has come, and the next one comes a moment later, or much later. The network in
/// between is cut: nothing arrives any more, and nobody is told.
#[tokio::test(start_paused = true)]
async fn a_server_that_has_gone_is_noticed_by_callers_in_a_hurry() {
    for pause in [Duration::ZERO, PROBE_EVERY * 10] {
        with_registry(|scene| async move {
            let terms = Terms::Client { idle: pause * 2 + IDLE, probes: true };
            let (ours, _server, is_cut) = Driving::toward(&scene, terms);
            let call = async || {
                let stream = ours.session.open(&connect(), false).ok()?;
                tokio::time::sleep(PROBE_EVERY * 5 / 8).await;
                drop(stream);
                tokio::time::sleep(pause).await;
                Some(())
            };
            for _ in 0..10 {
                assert!(call().await.is_some(), "it answers");
            }
            is_cut.set(true);
            let mut calls = 0;
            while call().await.is_some() {
                calls += 1;
                assert!(calls < 5, "nobody looked");
            }
            assert!(matches!(ours.end.await.unwrap(), Err(DriveError::Failed(ConnectionError::Io(_)))));
        })
        .await;
    }
}

/// It may take a PING for an attack.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_ours_is_not_asked_whether_it_is_there() {
    with_registry(|scene| async move {
        let (ours, _server, is_cut) = Driving::toward(&scene, Terms::Client { idle: IDLE, probes: false });
        let _stream = ours.session.open(&connect(), false).unwrap();
        tokio::time::sleep(IDLE).await;
        is_cut.set(true);
        tokio::time::sleep(TEND_EVERY * 10).await;
        assert!(!ours.session.is_closed());
    })
    .await;
}
