//! How much of a listener may run at a time, and what becomes of more.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Response};
use tokio::{sync::watch, task::JoinHandle};

use crate::support::{
    agent::{Agent, Says},
    app,
    authority::Authority,
    client::{Read, Sender1, ask, get, http1, mtls},
    sidecar::Sidecar,
    soon,
};

/// An app that answers nothing before it is told to, and counts who asked.
struct Hanging {
    address: SocketAddr,
    asked: watch::Receiver<usize>,
    goes_on: watch::Sender<bool>,
}

impl Hanging {
    async fn start() -> Self {
        let (count, asked) = watch::channel(0);
        let (goes_on, told) = watch::channel(false);
        let count = Arc::new(count);
        let address = app::http(move |_| {
            let (count, mut told) = (Arc::clone(&count), told.clone());
            async move {
                count.send_modify(|count| *count += 1);
                told.wait_for(|goes_on| *goes_on).await.unwrap();
                Response::new(app::text(Bytes::from("at last")))
            }
        })
        .await;
        Self { address, asked, goes_on }
    }
}

struct Scene {
    authority: Authority,
    sidecar: Sidecar,
    app: Hanging,
    _agent: Agent,
}

impl Scene {
    async fn start(limits: &str) -> Self {
        let authority = Authority::new("demo.org");
        let agent = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
        let app = Hanging::start().await;
        let listeners = format!(
            "inbound:\n  - {{name: orders, listen: \"127.0.0.1:0\", forward: \"{}\", policy: policy.yaml, limits: {{{limits}}}}}\n",
            app.address
        );
        let sidecar = Sidecar::ready(&agent, &listeners).await;
        Self { authority, sidecar, app, _agent: agent }
    }

    async fn connect(&self, peer: &str) -> Sender1 {
        let identity = self.authority.identity(peer);
        let stream = mtls(self.sidecar.inbound("orders"), &self.authority, identity, &[b"http/1.1"]);
        http1(stream.await.unwrap()).await
    }

    /// Asks over and over, each time on a new connection, until somebody is refused. Gives those that run.
    async fn fill(&mut self, peer: &str, code: &'static str) -> Vec<JoinHandle<Read>> {
        let mut running = Vec::new();
        loop {
            let mut client = self.connect(peer).await;
            let mut request = tokio::spawn(async move { ask(&mut client, get("/")).await });
            let asked = running.len() + 1;
            assert!(asked < 100, "nobody is refused");
            tokio::select! {
                reached = self.app.asked.wait_for(|count| *count >= asked) => drop(reached.unwrap()),
                refused = &mut request => {
                    let refused = refused.unwrap();
                    assert_eq!(refused.status, 503);
                    assert_eq!(refused.headers["x-svidecar-error"], HeaderValue::from_static(code));
                    return running;
                }
            }
            running.push(request);
        }
    }

    /// Waits until the metrics say so: what is counted of a request comes after its answer.
    async fn counts(&self, what: &str) {
        soon(what, async { while !self.sidecar.admin("/metrics").await.body.contains(what) {} }).await;
    }

    async fn goes_on(&self, running: Vec<JoinHandle<Read>>) {
        self.app.goes_on.send_replace(true);
        for request in running {
            assert_eq!(soon("an answer", request).await.unwrap().body, "at last");
        }
    }
}

#[tokio::test]
async fn requests_that_run_are_shared_out_by_peer() {
    let mut scene = Scene::start("max_requests: 18").await;
    let mut running = scene.fill("/shop", "too_many_requests").await;
    assert_eq!(running.len(), 16);
    let mut other = scene.connect("/other").await;
    running.push(tokio::spawn(async move { ask(&mut other, get("/")).await }));
    soon("the other's request", scene.app.asked.wait_for(|count| *count == 17)).await.unwrap();
    scene.counts("code=\"too_many_requests\"").await;
    scene.goes_on(running).await;
    // They have ended, so others may begin.
    let mut again = scene.connect("/shop").await;
    assert_eq!(ask(&mut again, get("/")).await.status, 200);
}

/// An app that hangs takes so many connections and no more, and whoever wants another one is told at once.
#[tokio::test]
async fn an_app_that_hangs_takes_so_many_connections() {
    let mut scene = Scene::start("max_upstream_connections: 5").await;
    let running = scene.fill("/shop", "too_many_upstream_connections").await;
    assert_eq!(running.len(), 5);
    scene.counts("svidecar_upstream_connections{direction=\"inbound\",listener=\"orders\"} 5\n").await;
    scene.counts("code=\"too_many_upstream_connections\"").await;
    scene.goes_on(running).await;
    for _ in 0..20 {
        let mut again = scene.connect("/shop").await;
        assert_eq!(ask(&mut again, get("/")).await.status, 200);
    }
}
