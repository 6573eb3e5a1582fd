//! Identities that come, rotate, go away and are taken back; readiness; the way down.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use svidecar::runtime::drain::Direction;
use svidecar_process::clock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    http::outbound,
    support::{
        PATIENCE,
        agent::{Agent, Says},
        app,
        authority::Authority,
        client::{ask, get, http1, mtls, plain_get},
        sidecar::Sidecar,
        soon,
    },
};

fn inbound(app: std::net::SocketAddr) -> String {
    format!(
        "inbound:\n  - {{name: orders, listen: \"127.0.0.1:0\", forward: \"{app}\", policy: policy.yaml}}\n"
    )
}

/// The promise of the whole: rotation of both sides under load, and not one request fails.
#[tokio::test]
async fn rotation_under_load_fails_no_request() {
    let authority = Authority::new("demo.org");
    let orders = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
    let shop = Agent::start(Says::Gives(authority.response("/shop", &[]))).await;
    let server = Sidecar::ready(&orders, &inbound(app::echo().await)).await;
    let client = Sidecar::ready(&shop, &outbound(server.inbound("orders"))).await;
    let address = client.outbound("orders");
    let (stop, stopped) = watch::channel(false);
    let done = Arc::new(watch::Sender::new(0_usize));
    let load: Vec<_> = (0..4)
        .map(|worker| {
            let (stopped, done) = (stopped.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut kept = http1(TcpStream::connect(address).await.unwrap()).await;
                while !*stopped.borrow() {
                    let response = if worker % 2 == 0 {
                        ask(&mut kept, get("/")).await
                    } else {
                        plain_get(address, "/").await
                    };
                    assert_eq!(response.status, StatusCode::OK, "{:?} {}", response.headers, response.body);
                    done.send_modify(|done| *done += 1);
                }
            })
        })
        .collect();
    let mut progress = done.subscribe();
    for _ in 0..10 {
        let (mut server_changes, mut client_changes) =
            (server.proxy.shared().current.subscribe(), client.proxy.shared().current.subscribe());
        orders.says(Says::Gives(authority.response("/orders", &[])));
        shop.says(Says::Gives(authority.response("/shop", &[])));
        soon("a rotation", server_changes.changed()).await.unwrap();
        soon("a rotation", client_changes.changed()).await.unwrap();
        let goal = *done.borrow() + 8;
        soon("requests after a rotation", progress.wait_for(|done| *done >= goal)).await.unwrap();
    }
    stop.send_replace(true);
    for worker in load {
        worker.await.unwrap();
    }
}

#[tokio::test]
async fn it_serves_on_while_the_agent_is_away_and_comes_back_by_itself() {
    let authority = Authority::new("demo.org");
    let mut agent = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
    let server = Sidecar::ready(&agent, &inbound(app::echo().await)).await;
    agent.stop().await;
    let lost = server.until(|readiness| readiness.conditions[0].state != "current").await;
    assert!(lost.ready, "{lost:?}");
    let stream =
        mtls(server.inbound("orders"), &authority, authority.identity("/shop"), &[b"http/1.1"]).await;
    assert_eq!(ask(&mut http1(stream.unwrap()).await, get("/")).await.status, StatusCode::OK);
    agent.restart().await;
    server.until(|readiness| readiness.conditions[0].state == "current").await;
}

/// I13: what the agent takes back is not used any more.
#[tokio::test]
async fn an_identity_that_is_taken_back_is_gone() {
    let authority = Authority::new("demo.org");
    let agent = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
    let server = Sidecar::ready(&agent, &inbound(app::echo().await)).await;
    agent.says(Says::Denied);
    let readiness = server.until(|readiness| !readiness.ready).await;
    assert_eq!(readiness.conditions[0].state, "no_identity_issued");
    assert!(mtls(server.inbound("orders"), &authority, authority.identity("/shop"), &[]).await.is_err());
    agent.says(Says::Gives(authority.response("/orders", &[])));
    server.until(|readiness| readiness.ready).await;
}

#[tokio::test]
async fn not_ready_says_what_is_missing_and_why() {
    let authority = Authority::new("demo.org");
    let mut agent = Agent::start(Says::Denied).await;
    let server = Sidecar::start(&agent, &inbound(app::echo().await)).await;
    let denied = server.until(|readiness| readiness.conditions[0].state == "no_identity_issued").await;
    assert!(denied.missing().contains("registration entry"), "{}", denied.missing());
    let page = server.admin("/ready").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);

    agent.stop().await;
    let missing = server.until(|readiness| readiness.conditions[0].state == "socket_missing").await;
    assert!(missing.missing().contains("agent.sock"), "{}", missing.missing());

    agent.says(Says::Unavailable);
    agent.restart().await;
    server.until(|readiness| readiness.conditions[0].state == "agent_unavailable").await;
    agent.says(Says::Gives(authority.response("/orders", &[])));
    server.until(|readiness| readiness.ready).await;
}

/// Our own workload gets the reason, not a broken handshake.
#[tokio::test]
async fn without_an_identity_a_request_out_says_so() {
    let agent = Agent::start(Says::Denied).await;
    let client = Sidecar::start(&agent, &outbound("127.0.0.1:9".parse().unwrap())).await;
    let response = plain_get(client.outbound("orders"), "/").await;
    assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers["x-svidecar-error"], "no_identity");
}

/// An SVID that has ended is not presented, and readiness says so.
#[tokio::test]
async fn an_expired_svid_is_not_used() {
    let authority = Authority::new("demo.org");
    let short = authority.response_for("/orders", Duration::from_secs(1), &[]);
    let agent = Agent::start(Says::Gives(short)).await;
    let server = Sidecar::start(&agent, &inbound(app::echo().await)).await;
    soon("the end of the SVID", async {
        loop {
            let page = server.admin("/ready").await;
            if page.body.contains("\"expired\"") {
                assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
                return;
            }
        }
    })
    .await;
    assert!(mtls(server.inbound("orders"), &authority, authority.identity("/shop"), &[]).await.is_err());
}

/// A connection whose peer's SVID ends is drained, whatever it is doing.
#[tokio::test]
async fn a_peers_connection_ends_with_its_svid() {
    let authority = Authority::new("demo.org");
    let agent = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
    let server = Sidecar::ready(&agent, &inbound(app::echo().await)).await;
    let short = authority.identity_at("/shop", Duration::from_secs(2), clock::unix());
    let stream = mtls(server.inbound("orders"), &authority, short, &[b"http/1.1"]).await.unwrap();
    let mut sender = http1(stream).await;
    assert_eq!(ask(&mut sender, get("/")).await.status, StatusCode::OK);
    soon("the end of the connection", async {
        while !sender.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A connection on which nothing was said yet has nothing to finish.
#[tokio::test]
async fn a_connection_that_was_never_used_does_not_hold_up_a_drain() {
    let authority = Authority::new("demo.org");
    let agent = Agent::start(Says::Gives(authority.response("/shop", &[]))).await;
    let client = Sidecar::ready(&agent, &outbound("127.0.0.1:9".parse().unwrap())).await;
    let _unused = TcpStream::connect(client.outbound("orders")).await.unwrap();
    let drain = client.proxy.shared().drain.clone();
    soon("the connection to be accepted", async {
        while drain.live(Direction::Outbound) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(soon("the drain", drain.run(2 * PATIENCE)).await, "nothing had to be cut");
    client.proxy.stop();
}

/// A peer is not asked for ever whether it has heard that its connection ends.
#[tokio::test]
async fn an_idle_connection_of_http2_ends_though_its_client_answers_nothing() {
    let authority = Authority::new("demo.org");
    let agent = Agent::start(Says::Gives(authority.response("/shop", &[]))).await;
    let listeners = outbound("127.0.0.1:9".parse().unwrap()) + "    timeouts: {idle: 100ms}\n";
    let client = Sidecar::ready(&agent, &listeners).await;
    let mut stream = TcpStream::connect(client.outbound("orders")).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut said = Vec::new();
    let _ = soon("the end of the connection", stream.read_to_end(&mut said)).await;
    // It was told: GOAWAY is of type 7.
    assert!(said.windows(4).any(|window| window == [0, 8, 7, 0]), "{said:?}");
}

/// A running response finishes, a new connection is refused, and the drain ends by itself.
#[tokio::test]
async fn a_drain_finishes_what_runs() {
    let authority = Authority::new("demo.org");
    let agent = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
    let (frames, receiver) = mpsc::channel::<Frame<bytes::Bytes>>(4);
    let receiver = Arc::new(std::sync::Mutex::new(Some(receiver)));
    let asked = Arc::new(Notify::new());
    let app = {
        let asked = Arc::clone(&asked);
        app::http(move |_| {
            let receiver = receiver.lock().unwrap().take().unwrap();
            asked.notify_one();
            async move {
                let stream = futures_util::StreamExt::map(ReceiverStream::new(receiver), Ok);
                http::Response::new(StreamBody::new(stream).boxed())
            }
        })
        .await
    };
    let server = Sidecar::ready(&agent, &inbound(app)).await;
    let address = server.inbound("orders");
    let stream = mtls(address, &authority, authority.identity("/shop"), &[b"http/1.1"]).await.unwrap();
    let mut sender = http1(stream).await;
    let answer = tokio::spawn(async move { ask(&mut sender, get("/slow")).await });
    soon("the request to arrive", asked.notified()).await;

    let drain = server.proxy.shared().drain.clone();
    let draining = tokio::spawn({
        let drain = drain.clone();
        async move { drain.run(Duration::from_secs(20)).await }
    });
    soon("the drain to begin", async {
        drain.subscribe().wait_for(|phase| *phase != svidecar::runtime::drain::Phase::Running).await.unwrap();
    })
    .await;
    soon("new connections to be refused", async { while TcpStream::connect(address).await.is_ok() {} }).await;
    frames.send(Frame::data(bytes::Bytes::from("all of it"))).await.unwrap();
    drop(frames);
    let answer = soon("the response", answer).await.unwrap();
    assert_eq!(answer.body, "all of it");
    assert!(soon("the drain", draining).await.unwrap(), "nothing had to be cut");
    server.proxy.stop();
}
