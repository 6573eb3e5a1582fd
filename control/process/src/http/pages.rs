//! Pages that are only read, for probes and scrapers: nothing to configure.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    reply::Reply,
    serve::{Asked, Limits, serve},
};

/// Probes, a scraper and a person.
const LIMITS: Limits =
    Limits { connections: 64, head: Duration::from_secs(10), answer: Duration::from_secs(10), body: 0 };

impl Reply {
    /// For a path that is not there.
    #[must_use]
    pub fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "not found; see /live, /ready, /metrics\n")
    }
}

/// Serves GET and HEAD on `listener` until `shutdown`; `handler` gets the path without its query.
/// Requests in flight are answered before it returns.
pub async fn serve_pages<H, F>(listener: TcpListener, handler: H, shutdown: CancellationToken)
where
    H: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let handler = Arc::new(handler);
    let answer = move |asked: Asked| {
        let page = asked.is_read().then(|| handler(asked.path().to_owned()));
        async move {
            match page {
                Some(page) => page.await,
                None => Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n")
                    .allowing("GET, HEAD"),
            }
        }
    };
    serve(listener, LIMITS, answer, shutdown).await;
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    async fn answer(request: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let handler = |path: String| async move {
            match path.as_str() {
                "/live" => Reply::text(StatusCode::OK, "ok\n"),
                _ => Reply::not_found(),
            }
        };
        let server = tokio::spawn(serve_pages(listener, handler, shutdown.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        shutdown.cancel();
        server.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn get_is_answered_by_path_without_query() {
        let answer = answer("GET /live?verbose HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    }

    #[tokio::test]
    async fn nothing_can_be_sent() {
        let answer =
            answer("POST /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }
}
