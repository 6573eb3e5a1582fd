//! Request smuggling: whatever a client sends, the proxy and the app behind it see the same requests.
//!
//! The tables list every case with its outcome. Each case carries, where the attack would have it, a request for
//! [`SMUGGLED`], which the app must never see; and behind it goes an honest request, which must get its own answer or
//! none. The app is strict: what it reads must have one meaning only.

mod chunks;
mod framing;
mod heads;
mod http2;
mod responses;
mod static_table;

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    support::soon,
    tools::{
        message::{Broken, Framing, Head, Message},
        scene::{Door, Scene},
        wire::Wire,
    },
};

/// The target of every request that hides in another one.
pub const SMUGGLED: &str = "/smuggled";

/// One thing that a client sends.
#[derive(Clone, Copy)]
pub struct Case {
    /// Also the target of the request: `/CASE` stands for it in `sends`.
    pub name: &'static str,
    pub sends: &'static [u8],
    pub outcome: Outcome,
}

/// What becomes of it.
#[derive(Clone, Copy)]
pub enum Outcome {
    /// One answer with this status, then the end. The app sees nothing.
    Refused(u16),
    /// An answer with this status. The framing is beyond doubt, so the connection may go on. The app sees nothing.
    Denied(u16),
    /// The app sees exactly this, and the connection goes on.
    Passes(Seen),
    /// The RFCs leave the choice between an error and this.
    RefusedOrPasses(Seen),
    /// The fault is in the body, when the head may have gone on already: the app never sees the end of the request,
    /// and the client gets a 400 or no answer, then the end.
    Broken,
    /// A field of the trailers is refused, as [`Broken`](Self::Broken), or left out of what passes (RFC 9110 §6.5.1).
    DroppedOrBroken(Seen),
    /// As [`Broken`](Self::Broken), and the fault is that the client half-closes before the end.
    Unfinished,
}

/// A request as the app sees it, without what the proxy itself adds.
#[derive(Clone, Copy)]
pub struct Seen {
    /// `/CASE` stands for the name of the case.
    pub line: &'static str,
    pub host: &'static str,
    /// All other fields but those that frame the body, with names in lower case.
    pub fields: &'static [(&'static str, &'static str)],
    pub body: &'static str,
    pub trailers: &'static [(&'static str, &'static str)],
}

impl Seen {
    pub const fn line(line: &'static str) -> Self {
        Self { line, host: "a", fields: &[], body: "", trailers: &[] }
    }

    pub const fn host(self, host: &'static str) -> Self {
        Self { host, ..self }
    }

    pub const fn fields(self, fields: &'static [(&'static str, &'static str)]) -> Self {
        Self { fields, ..self }
    }

    pub const fn body(self, body: &'static str) -> Self {
        Self { body, ..self }
    }

    pub const fn trailers(self, trailers: &'static [(&'static str, &'static str)]) -> Self {
        Self { trailers, ..self }
    }
}

/// What the app saw on one of its connections, request by request; the last may be broken.
pub type Journal = Vec<Result<Message, (Option<Head>, Broken)>>;

/// An app that writes down all it sees and answers each whole request with its target.
pub struct Recorder {
    pub address: std::net::SocketAddr,
    journals: Arc<Mutex<Vec<Journal>>>,
    open: watch::Receiver<usize>,
}

impl Recorder {
    pub async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let journals = Arc::new(Mutex::new(Vec::new()));
        let (count, open) = watch::channel(0);
        let count = Arc::new(count);
        let kept = Arc::clone(&journals);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.send_modify(|count| *count += 1);
                let (count, kept) = (Arc::clone(&count), Arc::clone(&kept));
                tokio::spawn(async move {
                    let journal = record(stream).await;
                    kept.lock().unwrap().push(journal);
                    count.send_modify(|count| *count -= 1);
                });
            }
        });
        Self { address, journals, open }
    }

    /// All that was seen, once the proxy has closed all its connections.
    pub async fn journals(mut self) -> Vec<Journal> {
        soon("the end of all connections to the app", self.open.wait_for(|open| *open == 0)).await.unwrap();
        std::mem::take(&mut *self.journals.lock().unwrap())
    }
}

async fn record(stream: TcpStream) -> Journal {
    let (mut wire, mut journal) = (Wire::plain(stream).unhurried(), Vec::new());
    loop {
        let head = match wire.try_head().await {
            Ok(head) => head,
            Err(Broken::Cut(what)) if what == "nothing" => return journal,
            Err(Broken::Reset) => return journal,
            Err(broken) => {
                journal.push(Err((None, broken)));
                return journal;
            }
        };
        let body = match head.request_framing() {
            Ok(framing) => wire.try_body(framing).await,
            Err(broken) => Err(broken),
        };
        let body = match body {
            Ok(body) => body,
            Err(broken) => {
                journal.push(Err((Some(head), broken)));
                return journal;
            }
        };
        let text = if head.method() == "HEAD" { "" } else { head.target() };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", head.target().len());
        journal.push(Ok(Message { head, body }));
        if wire.try_send(answer).await.is_err() {
            return journal;
        }
    }
}

/// What the client got: whole answers, and why there was no further one.
struct Got {
    answers: Vec<Message>,
    last: Broken,
}

/// Sends each case through `door`, then compares what both ends saw with what the table says.
async fn check(door: Door, cases: &[Case]) {
    let recorder = Recorder::listen().await;
    let scene = Scene::at(door, recorder.address).await;
    let mut got = Vec::new();
    for case in cases {
        let mut client = scene.connect().await;
        let sends = replace(case.sends, b"/CASE", format!("/{}", case.name).as_bytes());
        let follow_up = format!("GET /next-{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", case.name);
        // A proxy that has seen enough may close before it has read all.
        let _ = client.try_send([sends.as_slice(), follow_up.as_bytes()].concat()).await;
        if matches!(case.outcome, Outcome::Unfinished) {
            client.finish().await;
        }
        let mut answers = Vec::new();
        let last = loop {
            match client.try_response("GET").await {
                Ok(answer) => answers.push(answer),
                Err(broken) => break broken,
            }
        };
        got.push(Got { answers, last });
    }
    tokio::task::spawn_blocking(|| scene.stop()).await.unwrap();
    let journals = recorder.journals().await;

    let mut faults = String::new();
    for (case, got) in cases.iter().zip(&got) {
        for fault in judge(case, got, &journals) {
            writeln!(faults, "{}: {fault}", case.name).unwrap();
        }
    }
    for (head, broken) in journals.iter().flatten().filter_map(|seen| seen.as_ref().err()) {
        if matches!(broken, Broken::Malformed(_)) {
            writeln!(faults, "the app cannot read {head:?}: {broken}").unwrap();
        }
    }
    for seen in journals.iter().flatten().flatten().filter(|seen| seen.head.target().starts_with(SMUGGLED)) {
        writeln!(faults, "the app saw a smuggled request: {:?}", seen.head).unwrap();
    }
    assert!(faults.is_empty(), "{door:?}\n{faults}");
}

/// What is wrong with a case.
fn judge(case: &Case, got: &Got, journals: &[Journal]) -> Vec<String> {
    let target = format!("/{}", case.name);
    // Of all cases only one can have the target `*`.
    let asterisk = case.sends.starts_with(b"OPTIONS * ");
    let mentions =
        |head: &Head| head.target().split('?').next() == Some(&target) || asterisk && head.target() == "*";
    let whole: Vec<&Message> =
        journals.iter().flatten().flatten().filter(|seen| mentions(&seen.head)).collect();
    let nexts = journals
        .iter()
        .flatten()
        .flatten()
        .filter(|seen| seen.head.target() == format!("/next-{}", case.name))
        .count();
    let statuses: Vec<u16> = got.answers.iter().map(|answer| answer.head.status()).collect();

    let mut faults = Vec::new();
    let mut expect = |right: bool, what: &str| {
        if !right {
            let seen: Vec<_> =
                whole.iter().map(|seen| (&seen.head.line, &seen.head.fields, &seen.body)).collect();
            faults.push(format!("{what}; the client got {statuses:?}, then {}; the app {seen:?}", got.last));
        }
    };
    // The honest request is answered if and only if it is forwarded.
    let next_answered =
        got.answers.last().is_some_and(|answer| answer.body.text() == format!("/next-{}", case.name));
    expect(nexts == usize::from(next_answered), "the request that follows got no answer of its own");
    let passes = |seen: &Seen| whole.len() == 1 && matches(case.name, seen, whole[0]);
    match &case.outcome {
        Outcome::Refused(status) => {
            expect(statuses == [*status] && whole.is_empty(), &format!("expected {status} and the end"));
        }
        Outcome::Denied(status) => {
            let right = statuses.first() == Some(status) && whole.is_empty();
            expect(right, &format!("expected {status}"));
        }
        Outcome::Passes(seen) => {
            let right = statuses == [200, 200] && next_answered && passes(seen);
            expect(right, "expected it to pass, and the connection to go on");
        }
        Outcome::RefusedOrPasses(seen) => {
            let refused = matches!(statuses[..], [400 | 501 | 505]) && whole.is_empty();
            let passed = statuses.first() == Some(&200) && passes(seen);
            expect(refused || passed, "expected a 400 or one meaning");
        }
        Outcome::DroppedOrBroken(seen) => {
            let broken = (statuses.is_empty() || statuses == [400]) && whole.is_empty() && nexts == 0;
            expect(broken || statuses == [200, 200] && passes(seen), "expected the field to be dropped");
        }
        Outcome::Broken | Outcome::Unfinished => {
            let right = (statuses.is_empty() || statuses == [400]) && whole.is_empty() && nexts == 0;
            expect(right, "expected a 400 or nothing, then the end");
        }
    }
    faults
}

/// Whether the app saw what it should of the case with that name.
fn matches(name: &str, expected: &Seen, seen: &Message) -> bool {
    let line = expected.line.replace("/CASE", &format!("/{name}"));
    let own = ["host", "content-length", "transfer-encoding", "x-forwarded-client-cert", "x-spiffe-id"];
    let fields: Vec<_> = seen
        .head
        .fields
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .collect();
    let trailers = seen.body.trailers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()));
    seen.head.line == line
        && seen.head.all("host") == [expected.host]
        && fields.iter().map(|(name, value)| (name.as_str(), *value)).eq(expected.fields.iter().copied())
        && seen.body.text() == expected.body
        && (seen.body.framing != Framing::None || expected.body.is_empty())
        && trailers.collect::<Vec<_>>()
            == expected.trailers.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect::<Vec<_>>()
}

/// Each `from` in `bytes` made `to`.
pub fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}
