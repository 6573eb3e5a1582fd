//! A client of the admin listener: one GET, one bounded JSON answer.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::control::cli::error::CliError;

/// For a whole request; the proxy is on this machine.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer is the settings of a proxy with many listeners.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Asks one proxy.
pub(super) struct AdminClient {
    address: String,
}

impl AdminClient {
    /// A client of the admin at `HOST:PORT`.
    pub(super) fn new(address: &str) -> Self {
        Self { address: address.to_owned() }
    }

    /// Gets a page as JSON, whatever its status.
    pub(super) async fn get(&self, path: &str) -> Result<(StatusCode, Value), CliError> {
        match tokio::time::timeout(TIMEOUT, self.exchange(path)).await {
            Ok(answer) => answer.map_err(|problem| self.problem(problem)),
            Err(_) => Err(self.problem(format!("no answer within {TIMEOUT:?}"))),
        }
    }

    /// What went wrong, with the address.
    pub(super) fn problem(&self, problem: impl Into<String>) -> CliError {
        CliError::Admin { address: self.address.clone(), problem: problem.into() }
    }

    async fn exchange(&self, path: &str) -> Result<(StatusCode, Value), String> {
        let stream = TcpStream::connect(&self.address).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let request = Request::get(path)
            .header(HOST, &self.address)
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            serde_json::from_slice(&body)
                .map(|value| (status, value))
                .map_err(|_| format!("{path} gave {status} and no JSON, so this is not svidecar's admin"))
        };
        // The connection is driven beside the exchange; when it ends first, the exchange knows why.
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(error.to_string()),
            },
        }
    }
}
