//! The app: plain HTTP/1.1, no TLS, no identities. It answers with what it was sent, and decides nothing.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::identity;

/// Serves until SIGTERM.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(listen: SocketAddr, sidecar: Option<SocketAddr>) -> Result<ExitCode> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    println!("app listening on {}", listener.local_addr()?);
    if let Some(sidecar) = sidecar {
        identity::introduce(sidecar).await?;
    }
    let connections = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = stop.recv() => return Ok(ExitCode::SUCCESS),
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(
                TokioIo::new(stream),
                service_fn(
                    move |request| async move { Ok::<_, Infallible>(answer(&request, sidecar).await) },
                ),
            )
            .with_upgrades();
        connections.spawn(async move {
            // A client that goes away in the middle is its own business.
            let _ = connection.await;
        });
    }
}

/// The answer to one request; its body is not read.
async fn answer(request: &Request<Incoming>, sidecar: Option<SocketAddr>) -> Response<Full<Bytes>> {
    let (method, path) = (request.method(), request.uri().path());
    match request.headers().get("x-robot-id") {
        Some(robot) => {
            println!("[ledger] robot_id={} {method} {path}", String::from_utf8_lossy(robot.as_bytes()));
        }
        // Asked every second by those who watch over us.
        None if path == "/health" => {}
        None => println!("{method} {path}"),
    }
    match (method, path) {
        (&Method::GET, "/health") => reply(StatusCode::OK, &json!({"status": "ok"})),
        (&Method::GET, "/api/hello") => {
            let caller =
                request.headers().get("x-spiffe-id").map(|id| String::from_utf8_lossy(id.as_bytes()));
            reply(StatusCode::OK, &json!({"message": "hello from a plain HTTP app", "caller": caller}))
        }
        (&Method::GET, "/api/whoami") if let Some(sidecar) = sidecar => match identity::ask(sidecar).await {
            Ok(status) => reply(StatusCode::OK, &status),
            Err(error) => reply(StatusCode::BAD_GATEWAY, &json!({"error": format!("{error:#}")})),
        },
        (_, "/api/echo") => {
            let (method, path) = (request.method().as_str(), request.uri().to_string());
            reply(
                StatusCode::OK,
                &json!({"method": method, "path": path, "headers": seen(request.headers())}),
            )
        }
        _ => reply(StatusCode::NOT_FOUND, &json!({"error": "not found"})),
    }
}

/// Every header with all its values.
fn seen(headers: &HeaderMap) -> Value {
    let mut all = Map::new();
    for name in headers.keys() {
        let values =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into());
        all.insert(name.as_str().to_owned(), Value::Array(values.collect()));
    }
    Value::Object(all)
}

fn reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{body}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
