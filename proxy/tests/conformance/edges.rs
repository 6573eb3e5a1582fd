//! The edges of HTTP: where an exchange is not one request with one body, then one response with one body.

mod bodies;
mod endings;
mod fidelity;
mod graceful;
mod interim;
mod messages;
mod pressure;
mod streams;
mod upgrades;

use crate::tools::{
    scene::{App, Door, Scene},
    wire::Wire,
};

/// Each door, with an app that the test plays.
pub async fn scenes() -> Vec<(Scene, App)> {
    let mut scenes = Vec::new();
    for door in Door::BOTH {
        let app = App::listen().await;
        scenes.push((Scene::at(door, app.address).await, app));
    }
    scenes
}

/// Sends an honest request, which must get an honest answer: whatever happened before, the proxy is well.
pub async fn still_serves(scene: &Scene, app: &App) {
    let mut client = scene.connect().await;
    client.send("GET /well HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let mut served = app.accept().await;
    assert_eq!(served.request().await.head.target(), "/well");
    served.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell").await;
    assert_eq!(client.response("GET").await.body.text(), "well");
}

/// Answers one request with its target.
async fn answer(app: &mut Wire) -> String {
    let target = app.request().await.head.target().to_owned();
    app.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len())).await;
    target
}

/// Answers every request on every connection with its target, from here on.
fn answer_all(app: App) {
    serve_all(app, target_back);
}

/// A whole answer.
fn target_back(target: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len()).into_bytes()
}

/// Serves every request on every connection with what `answer` makes of its target.
pub fn serve_all(app: App, answer: impl Fn(&str) -> Vec<u8> + Clone + Send + 'static) {
    tokio::spawn(async move {
        loop {
            serve_on(app.accept_whenever().await, answer.clone());
        }
    });
}

/// The same on one connection.
fn serve_on(wire: Wire, answer: impl Fn(&str) -> Vec<u8> + Send + 'static) {
    let mut wire = wire.unhurried();
    tokio::spawn(async move {
        while let Ok(request) = wire.try_request().await {
            let bytes = answer(request.head.target());
            if wire.try_send(bytes).await.is_err() {
                return;
            }
        }
    });
}

/// Bytes that show when one is missing or out of place.
pub fn pattern(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}
