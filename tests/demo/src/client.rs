//! The client: plain HTTP/1.1, no TLS, no identities. It says what it got.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use svidecar_stack::http::{Answer, Connection};
use tokio::signal::unix::{SignalKind, signal};

/// How far apart the requests of a stream are: steady traffic, not a load test.
const PACE: Duration = Duration::from_millis(5);
/// A stream ends by itself after this long.
const LONGEST_STREAM: Duration = Duration::from_secs(60);
/// How many requests of a stream share a connection.
const REQUESTS_PER_CONNECTION: usize = 10;

/// One GET. Succeeds only for a 2xx answer.
///
/// # Errors
/// When there is no answer.
pub async fn once(address: SocketAddr, path: &str, headers: &[String]) -> Result<ExitCode> {
    let headers = split(headers)?;
    let answer = Connection::open(address).await?.get(path, &headers).await?;
    let said = answer.text();
    println!("GET {path}: {}", said.trim_end());
    Ok(if !answer.status.is_success() {
        println!("request failed (status {})", answer.status);
        ExitCode::FAILURE
    } else if names_caller(&answer) {
        // The app learnt our SPIFFE ID, so the request came to it through mutual TLS.
        println!("mTLS request succeeded (status {})", answer.status);
        ExitCode::SUCCESS
    } else {
        println!("plain request succeeded (status {})", answer.status);
        ExitCode::SUCCESS
    })
}

/// Did the app see who we are?
fn names_caller(answer: &Answer) -> bool {
    answer.json().is_ok_and(|body| {
        let caller = body.get("caller").or_else(|| body.pointer("/headers/x-spiffe-id/0"));
        caller.and_then(|caller| caller.as_str()).is_some_and(|caller| caller.starts_with("spiffe://"))
    })
}

/// One GET after the other until SIGTERM. Succeeds only if every one of them did.
///
/// # Errors
/// When the signal cannot be watched.
pub async fn stream(address: SocketAddr, path: &str, headers: &[String]) -> Result<ExitCode> {
    let headers = split(headers)?;
    let mut stop = signal(SignalKind::terminate())?;
    let (mut sent, mut failed) = (0_usize, 0_usize);
    let traffic = async {
        let mut pace = tokio::time::interval(PACE);
        loop {
            let mut connection = Connection::open(address).await;
            for _ in 0..REQUESTS_PER_CONNECTION {
                pace.tick().await;
                sent += 1;
                let outcome = match &mut connection {
                    Ok(connection) => connection.get(path, &headers).await,
                    Err(error) => Err(anyhow::anyhow!("{error:#}")),
                };
                let problem = match outcome {
                    Ok(answer) if answer.status.is_success() => continue,
                    Ok(answer) => answer.status.to_string(),
                    Err(error) => format!("{error:#}"),
                };
                failed += 1;
                println!("request {sent} failed: {problem}");
                break;
            }
        }
    };
    tokio::select! {
        () = traffic => {}
        () = tokio::time::sleep(LONGEST_STREAM) => {}
        _ = stop.recv() => {}
    }
    println!("sent {sent} requests, {failed} failed");
    Ok(if failed == 0 && sent > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `name: value` pairs.
fn split(headers: &[String]) -> Result<Vec<(&str, &str)>> {
    headers
        .iter()
        .map(|header| {
            let (name, value) =
                header.split_once(':').with_context(|| format!("`{header}`: not `name: value`"))?;
            Ok((name.trim(), value.trim()))
        })
        .collect()
}
