//! The built binary when there is too little of something: what one spends, and what the others notice of it.

use std::{net::SocketAddr, sync::Arc};

use http::{Response, StatusCode};
use tokio::{net::TcpStream, sync::Semaphore, task::JoinSet};

use crate::{
    process::Process,
    support::{
        agent::{Agent, Says},
        app,
        authority::Authority,
        client, soon,
    },
};

/// An app that answers `/hang` when it is told to, and all else at once.
async fn app_that_hangs() -> (SocketAddr, Arc<Semaphore>) {
    let told = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&told);
    let address = app::http(move |request| {
        let waits = Arc::clone(&waits);
        async move {
            if request.uri().path() == "/hang" {
                waits.acquire().await.unwrap().forget();
            }
            Response::new(app::text("done"))
        }
    })
    .await;
    (address, told)
}

/// Requests that wait at the app use all that there is for upstream connections. Peers are heard, admin and logs go on.
#[tokio::test]
async fn requests_that_hang_take_no_descriptor_of_admin_or_of_new_peers() {
    let authority = Authority::new("demo.org");
    let agent = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
    let (app, told) = app_that_hangs().await;
    let listeners = format!(
        "access_log: {{format: off}}\ninbound: [{{name: orders, listen: \"127.0.0.1:0\", forward: \"{app}\", policy: policy.yaml}}]\n"
    );
    let mut process = Process::start_under("ulimit -n 256; exec \"$@\"", &agent, &listeners, &[]);
    let orders = process.address("Listening", "address").await;
    let admin = process.address("svidecar is up", "admin").await;
    process.says("The proxy is ready").await;

    let connect = async |path: &str| {
        let stream = client::mtls(orders, &authority, authority.identity(path), &[b"h2"]).await.unwrap();
        client::http2(stream).await
    };
    let actor = connect("/other").await;
    let mut hanging = JoinSet::new();
    for _ in 0..200 {
        let mut actor = actor.clone();
        let request = client::get("http://orders/hang");
        hanging.spawn(async move { client::read(actor.send_request(request).await.unwrap()).await });
    }
    let refused = soon("a request that is refused", hanging.join_next()).await.unwrap().unwrap();
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers["x-svidecar-error"], "out_of_descriptors");
    process.says("Out of descriptors").await;

    let mut probes = Vec::new();
    for _ in 0..8 {
        assert_eq!(client::plain_get(admin, "/live").await.status, StatusCode::OK);
        assert_eq!(client::plain_get(admin, "/ready").await.status, StatusCode::OK);
        probes.push(TcpStream::connect(admin).await.unwrap());
        // A new peer is heard, and told what it may not do.
        let mut victim = connect("/shop").await;
        let denied = victim.send_request(client::get("http://orders/admin")).await.unwrap();
        assert_eq!(denied.status(), StatusCode::FORBIDDEN);
    }
    let metrics = client::plain_get(admin, "/metrics").await.body;
    assert!(metrics.contains("\nprocess_max_fds 256\n"), "{metrics}");
    assert!(!metrics.contains("\nsvidecar_descriptors_refused_total 0\n"), "{metrics}");

    told.add_permits(200);
    while hanging.join_next().await.is_some() {}
    let mut victim = connect("/shop").await;
    let answer = soon("an answer", victim.send_request(client::get("http://orders/"))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}
