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
use tokio::{net::TcpStream, sync::watch, task::JoinSet};

use crate::{
    support::{
        app,
        client::{Sender1, Sender2, http1, http2, read},
        sidecar::POLICY,
        soon,
    },
    tools::scene::{Door, Scene},
};

/// Changes of each kind.
const CHANGES: usize = 30;

/// Answers that must come between two changes.
const BETWEEN: usize = 50;

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
    async fn start(address: SocketAddr) -> Self {
        let mut load = Self {
            clients: JoinSet::new(),
            stop: Arc::new(AtomicBool::new(false)),
            answered: watch::Sender::new(0),
        };
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

/// Both sides get a new SVID, again and again.
#[tokio::test]
async fn identities_rotate() {
    let scene = Scene::at(Door::Pair, app::echo().await).await;
    let client = scene.client.as_ref().unwrap();
    let mut load = Load::start(client.outbound("orders")).await;
    load.goes_on().await;
    for _ in 0..CHANGES {
        let mut changes = [&scene.server, client].map(|sidecar| sidecar.proxy.shared().current.subscribe());
        scene.rotate();
        for change in &mut changes {
            soon("a rotation", change.changed()).await.unwrap();
        }
        load.goes_on().await;
    }
    load.end().await;
}

/// The policy changes in a rule that decides nothing for this client, again and again.
#[tokio::test]
async fn policies_reload() {
    let scene = Scene::at(Door::Pair, app::echo().await).await;
    let mut load = Load::start(scene.client.as_ref().unwrap().outbound("orders")).await;
    load.goes_on().await;
    for number in 0..CHANGES {
        let policy =
            format!("{POLICY}  - {{name: other-{number}, from: [spiffe://demo.org/other-{number}]}}\n");
        scene.server.edit_policy(&policy).await;
        load.goes_on().await;
    }
    load.end().await;
}
