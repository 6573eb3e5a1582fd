//! The load: plain clients that never stop asking, each for one thing, and what they see.
//!
//! Owns what a client does that others would do too: it keeps its connection while it is good. It judges nothing.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use svidecar_process::clock;
use svidecar_stack::{PATIENCE, http::Connection};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::{self, MissedTickBehavior},
};

use crate::{
    fleet::Fleet,
    history::History,
    part::{FRONT, INTERN, ORDERS, Part, STOCK},
};

/// Between two requests of one client.
const PACE: Duration = Duration::from_millis(40);

/// What one client asks for.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// What it is called in the report.
    pub name: &'static str,
    /// Whose being well it needs: the caller's proxy, the callee's, and the app's.
    pub parts: [Part; 3],
    /// What is expected.
    pub rule: Rule,
    ask: Ask,
    via: SocketAddr,
}

/// What policy says of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It may.
    Allowed,
    /// It may not.
    Denied,
    /// It depends on the policy that is edited.
    AsEdited,
}

#[derive(Clone, Copy, Debug)]
enum Ask {
    /// A request on a connection that is kept, with a body of that size.
    Kept(&'static str, usize),
    /// The same, each on a connection of its own.
    Fresh(&'static str, usize),
    /// Bytes to and fro on one connection of TCP.
    Echo,
}

/// What came of one request.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Which one.
    pub flow: Flow,
    /// When it began.
    pub from: Instant,
    /// When it was over.
    pub until: Instant,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The app answered.
    Passed,
    /// The session of TCP that there was has ended, and another began at once; so long after the one before had ended.
    Ended(Option<Duration>),
    /// 403: policy says no.
    Refused,
    /// Anything else.
    Failed(String),
}

/// All that is asked.
#[must_use]
pub fn flows(fleet: &Fleet) -> Vec<Flow> {
    let a = &fleet.addresses;
    let (app_orders, app_stock) = (Part::App(0), Part::App(1));
    let flow = |name, parts, rule, ask, via| Flow { name, parts, rule, ask, via };
    vec![
        flow(
            "front reads orders",
            [FRONT, ORDERS, app_orders],
            Rule::Allowed,
            Ask::Kept("GET", 0),
            a.front_orders,
        ),
        flow(
            "front orders",
            [FRONT, ORDERS, app_orders],
            Rule::Allowed,
            Ask::Fresh("POST", 64 << 10),
            a.front_orders,
        ),
        flow(
            "front fills the stock",
            [FRONT, STOCK, app_stock],
            Rule::Allowed,
            Ask::Kept("POST", 900),
            a.front_stock,
        ),
        flow("front talks to the stock", [FRONT, STOCK, app_stock], Rule::Allowed, Ask::Echo, a.front_echo),
        flow(
            "intern reads the stock",
            [INTERN, STOCK, app_stock],
            Rule::Allowed,
            Ask::Fresh("GET", 0),
            a.intern_stock,
        ),
        flow(
            "intern fills the stock",
            [INTERN, STOCK, app_stock],
            Rule::Denied,
            Ask::Kept("POST", 9),
            a.intern_stock,
        ),
        flow(
            "intern orders",
            [INTERN, ORDERS, app_orders],
            Rule::Denied,
            Ask::Fresh("POST", 9),
            a.intern_orders,
        ),
        flow(
            "intern reads orders",
            [INTERN, ORDERS, app_orders],
            Rule::AsEdited,
            Ask::Kept("GET", 0),
            a.intern_orders,
        ),
    ]
}

/// Asks for good.
pub async fn run(flow: Flow, history: Arc<Mutex<History>>, seen: mpsc::Sender<Sample>) {
    let mut ticks = time::interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut kept: Option<Kept> = None;
    let mut ended: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let from = clock::monotonic();
        // What broke while a part was down is noticed at the next use; a client that knows of it opens another.
        kept = kept.filter(|kept| kept.is_good(flow, &history, from));
        let is_session = matches!(kept, Some(Kept { wire: Wire::Tcp(_), .. }));
        let mut outcome = attempt(flow, &mut kept, from).await;
        if outcome.is_err() && is_session {
            kept = None;
            let again = attempt(flow, &mut kept, from).await;
            let before = ended.replace(from).map(|before| from.saturating_duration_since(before));
            outcome = again.map(|_| Outcome::Ended(before));
        }
        let outcome = outcome.unwrap_or_else(|error| {
            kept = None;
            Outcome::Failed(format!("{error:#}"))
        });
        if seen.send(Sample { flow, from, until: clock::monotonic(), outcome }).await.is_err() {
            return;
        }
    }
}

struct Kept {
    since: Instant,
    wire: Wire,
}

enum Wire {
    Http(Connection),
    Tcp(TcpStream),
}

impl Kept {
    fn is_good(&self, flow: Flow, history: &Mutex<History>, now: Instant) -> bool {
        let history = history.lock().unwrap_or_else(PoisonError::into_inner);
        let well = flow.parts.iter().all(|part| history.was_well(*part, self.since, now));
        match &self.wire {
            Wire::Http(connection) => well && connection.is_open(),
            Wire::Tcp(_) => well,
        }
    }
}

async fn attempt(flow: Flow, kept: &mut Option<Kept>, now: Instant) -> Result<Outcome> {
    let (method, size) = match flow.ask {
        Ask::Echo => return echo(flow.via, kept, now).await,
        Ask::Kept(method, size) => (method, size),
        Ask::Fresh(method, size) => {
            *kept = None;
            (method, size)
        }
    };
    if kept.is_none() {
        let wire = Wire::Http(Connection::open(flow.via).await?);
        *kept = Some(Kept { since: now, wire });
    }
    let Some(Kept { wire: Wire::Http(connection), .. }) = kept else { anyhow::bail!("no connection") };
    let answer = connection.send(method, "/", &[], Bytes::from(vec![b'x'; size])).await?;
    Ok(match answer.status.as_u16() {
        200 if answer.text().trim() == size.to_string() => Outcome::Passed,
        403 => Outcome::Refused,
        status => Outcome::Failed(format!("{status}: {}", answer.text().trim())),
    })
}

async fn echo(via: SocketAddr, kept: &mut Option<Kept>, now: Instant) -> Result<Outcome> {
    const MESSAGE: &[u8] = b"what goes there comes back";
    if kept.is_none() {
        let stream = TcpStream::connect(via).await?;
        stream.set_nodelay(true)?;
        *kept = Some(Kept { since: now, wire: Wire::Tcp(stream) });
    }
    let Some(Kept { wire: Wire::Tcp(stream), .. }) = kept else { anyhow::bail!("no connection") };
    let exchange = async {
        stream.write_all(MESSAGE).await.context("cannot send")?;
        let mut back = [0; MESSAGE.len()];
        stream.read_exact(&mut back).await.context("nothing came back")?;
        ensure!(back == MESSAGE, "something else came back");
        Ok(Outcome::Passed)
    };
    time::timeout(PATIENCE, exchange).await.context("no answer")?
}
