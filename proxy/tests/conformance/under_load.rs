//! What changes while it runs, changes under full load: identities, policies. No request fails.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
};

use crate::{
    support::{
        app,
        client::{Sender1, Sender2, http1, http2, read},
        sidecar::POLICY,
        soon,
    },
    tools::scene::{BYTES_POLICY, Door, Scene},
};

/// How often each identity changes, and beside it a policy for TCP.
const ROTATIONS: usize = 30;

/// How often a policy for HTTP changes.
const RELOADS: usize = 100;

/// Answers that must come between two changes.
const BETWEEN: usize = 50;

/// What an app of bytes is sent at a time, and sends back.
const PIECE: usize = 20_000;

/// Clients of every kind that ask without a pause.
struct Load {
    clients: JoinSet<()>,
    stop: Arc<AtomicBool>,
    answered: watch::Sender<usize>,
}

/// How a client asks.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// HTTP/1.1 on one connection.
    KeptAlive,
    /// HTTP/1.1 on a new connection each time.
    Fresh,
    /// HTTP/1.1 with a body.
    Upload,
    /// HTTP/2, on a connection with others.
    Stream,
}

impl Load {
    fn new() -> Self {
        Self {
            clients: JoinSet::new(),
            stop: Arc::new(AtomicBool::new(false)),
            answered: watch::Sender::new(0),
        }
    }

    /// Clients of HTTP.
    async fn start(address: SocketAddr) -> Self {
        let mut load = Self::new();
        let shared = http2(TcpStream::connect(address).await.unwrap()).await;
        for kind in [Kind::KeptAlive, Kind::Fresh, Kind::Upload, Kind::Stream].into_iter().cycle().take(16) {
            let (stop, answered, shared) = (Arc::clone(&load.stop), load.answered.clone(), shared.clone());
            load.clients.spawn(async move {
                let mut kept = None;
                while !stop.load(Ordering::Relaxed) {
                    ask(address, kind, &mut kept, shared.clone()).await;
                    answered.send_modify(|count| *count += 1);
                }
            });
        }
        load
    }

    /// Clients of an app that sends bytes back: each of the one half has a connection, the others open one each time.
    fn of_bytes(address: SocketAddr) -> Self {
        let mut load = Self::new();
        for keeps in [true, false].into_iter().cycle().take(8) {
            let (stop, answered) = (Arc::clone(&load.stop), load.answered.clone());
            load.clients.spawn(async move {
                let mut kept = None;
                while !stop.load(Ordering::Relaxed) {
                    let mut stream = match kept.take() {
                        Some(stream) => stream,
                        None => TcpStream::connect(address).await.unwrap(),
                    };
                    let (sent, mut back) = ([7; PIECE], [0; PIECE]);
                    soon("room for bytes", stream.write_all(&sent)).await.unwrap();
                    soon("bytes", stream.read_exact(&mut back)).await.unwrap();
                    assert_eq!(sent, back);
                    kept = Some(stream).filter(|_| keeps);
                    answered.send_modify(|count| *count += 1);
                }
            });
        }
        load
    }

    /// Waits until the load goes on.
    async fn goes_on(&mut self) {
        let goal = *self.answered.borrow() + BETWEEN;
        let mut answered = self.answered.subscribe();
        tokio::select! {
            all = soon("answers under load", answered.wait_for(|count| *count >= goal)) => drop(all.unwrap()),
            failed = self.clients.join_next() => failed.unwrap().unwrap(),
        }
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
    }
}

/// One request, which must be answered.
async fn ask(address: SocketAddr, kind: Kind, kept: &mut Option<Sender1>, mut shared: Sender2) {
    let body = if matches!(kind, Kind::Upload) { Bytes::from(vec![b'x'; 100_000]) } else { Bytes::new() };
    let size = body.len();
    let request = Request::builder().method(if size > 0 { "POST" } else { "GET" });
    let response = match kind {
        Kind::Stream => {
            let request = request.uri("http://orders/").body(Full::new(body)).unwrap();
            soon("a stream", shared.ready()).await.unwrap();
            soon("a response", shared.send_request(request)).await
        }
        Kind::KeptAlive | Kind::Fresh | Kind::Upload => {
            if kept.as_ref().is_none_or(Sender1::is_closed) || matches!(kind, Kind::Fresh) {
                *kept = Some(http1(TcpStream::connect(address).await.unwrap()).await);
            }
            let sender = kept.as_mut().unwrap();
            let request = request.uri("/").header("host", "orders").body(Full::new(body)).unwrap();
            soon("a connection", sender.ready()).await.unwrap();
            soon("a response", sender.send_request(request)).await
        }
    };
    let answer = read(response.unwrap_or_else(|error| panic!("{kind:?}: {error:?}"))).await;
    assert_eq!(answer.status, StatusCode::OK, "{kind:?} {:?} {}", answer.headers, answer.body);
    assert!(answer.body.len() > size, "{kind:?}: {} bytes", answer.body.len());
}

/// Gives both sides of a pair a new SVID, and waits until they have it.
async fn rotate(scene: &Scene) {
    let sidecars = [Some(&scene.server), scene.client.as_ref()].into_iter().flatten();
    let changes: Vec<_> = sidecars.map(|sidecar| sidecar.proxy.shared().current.subscribe()).collect();
    scene.rotate();
    for mut change in changes {
        soon("a rotation", change.changed()).await.unwrap();
    }
}

/// Changes a policy in a rule that decides nothing for the clients under load.
async fn reload(scene: &Scene, policy: &str, number: usize) {
    let rule = format!("  - {{name: other-{number}, from: [spiffe://demo.org/other-{number}]}}\n");
    scene.server.edit_policy(&format!("{policy}{rule}")).await;
}

/// Both sides get a new SVID, again and again.
#[tokio::test]
async fn identities_rotate() {
    let scene = Scene::at(Door::Pair, app::echo().await).await;
    let mut load = Load::start(scene.client.as_ref().unwrap().outbound("orders")).await;
    load.goes_on().await;
    for _ in 0..ROTATIONS {
        rotate(&scene).await;
        load.goes_on().await;
    }
    load.end().await;
}

/// The policy changes, again and again.
#[tokio::test]
async fn policies_reload() {
    let scene = Scene::at(Door::Pair, app::echo().await).await;
    let mut load = Load::start(scene.client.as_ref().unwrap().outbound("orders")).await;
    load.goes_on().await;
    for number in 0..RELOADS {
        reload(&scene, POLICY, number).await;
        load.goes_on().await;
    }
    load.end().await;
}

/// Both change under connections of TCP, those that live on and those that come.
#[tokio::test]
async fn identities_and_policies_change_under_bytes() {
    let app = app::tcp(|mut stream: TcpStream| async move {
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    let scene = Scene::of_bytes(app.await).await;
    let mut load = Load::of_bytes(scene.client.as_ref().unwrap().outbound("orders"));
    load.goes_on().await;
    for number in 0..ROTATIONS {
        rotate(&scene).await;
        load.goes_on().await;
        for step in 0..RELOADS.div_ceil(ROTATIONS) {
            reload(&scene, BYTES_POLICY, number * 10 + step).await;
            load.goes_on().await;
        }
    }
    load.end().await;
}
