//! The client's side: one GET on a connection of its own.

use std::time::Duration;

use bytes::Bytes;
use http::{
    Request, StatusCode,
    header::{HOST, USER_AGENT},
};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// The largest head of an answer.
const MAX_HEAD: usize = 64 * 1024;

/// What to get, and what may be spent on it. Redirects are not followed.
#[derive(Clone, Copy, Debug)]
pub struct Get<'g> {
    /// For the Host field.
    pub host: &'g str,
    /// The path, with its query.
    pub path: &'g str,
    /// How long all of it may take, the connecting as well.
    pub time: Duration,
    /// The largest body, in bytes.
    pub body: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum GetError<E> {
    /// There is no connection.
    #[error("{0}")]
    Connect(E),
    /// It broke, or what came is no HTTP.
    #[error("{0}")]
    Broken(String),
    /// The body has more bytes than it may have.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// It took longer than it may take.
    #[error("no answer within {0:?}")]
    Late(Duration),
}

impl Get<'_> {
    /// Asks, on the connection that `connecting` makes.
    ///
    /// # Errors
    /// When there is no answer. One with any status is one.
    pub async fn on<S, E>(
        self,
        connecting: impl Future<Output = Result<S, E>>,
    ) -> Result<(StatusCode, Bytes), GetError<E>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let asking = async { self.ask(connecting.await.map_err(GetError::Connect)?).await };
        tokio::time::timeout(self.time, asking).await.unwrap_or(Err(GetError::Late(self.time)))
    }

    async fn ask<S, E>(self, stream: S) -> Result<(StatusCode, Bytes), GetError<E>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let broken = |error: hyper::Error| GetError::Broken(error.to_string());
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let request = Request::get(self.path)
            .header(HOST, self.host)
            .header(USER_AGENT, "svidecar")
            .body(Empty::<Bytes>::new())
            .map_err(|error| GetError::Broken(error.to_string()))?;
        // The connection ends when the sender is dropped, at the end of the exchange.
        let exchange = async move {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), self.body).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    GetError::TooLong(self.body)
                } else {
                    GetError::Broken(error.to_string())
                }
            })?;
            Ok((status, body.to_bytes()))
        };
        let (answer, _) = tokio::join!(exchange, connection);
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const GET: Get<'static> = Get { host: "here", path: "/page?x", time: Duration::from_secs(5), body: 4 };

    /// What comes of `answer`, and what was asked.
    async fn got(answer: &str) -> (Result<(StatusCode, Bytes), GetError<Infallible>>, String) {
        let (ours, mut theirs) = duplex(1024);
        let server = async move {
            let mut request = vec![0; 1024];
            let length = theirs.read(&mut request).await.unwrap();
            theirs.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        };
        tokio::join!(GET.on(async { Ok(ours) }), server)
    }

    #[tokio::test]
    async fn an_answer_of_any_status_is_one() {
        let (answer, asked) = got("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nbody").await;
        assert_eq!(answer.unwrap(), (StatusCode::NOT_FOUND, Bytes::from_static(b"body")));
        assert!(asked.starts_with("GET /page?x HTTP/1.1\r\nhost: here\r\n"), "{asked}");
        let (answer, _) = got("HTTP/1.1 200 OK\r\n\r\nend").await;
        assert_eq!(answer.unwrap().1, "end");
    }

    #[tokio::test]
    async fn a_body_has_a_bound() {
        let (answer, _) = got("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12345").await;
        assert_eq!(answer.unwrap_err().to_string(), "the answer is longer than 4 bytes");
    }

    #[tokio::test]
    async fn what_is_no_http_is_a_problem() {
        let (answer, _) = got("hello\r\n\r\n").await;
        assert!(matches!(answer, Err(GetError::Broken(_))), "{answer:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn connecting_and_waiting_have_a_bound() {
        let late = GET.on(pending::<Result<DuplexStream, Infallible>>()).await.unwrap_err();
        assert_eq!(late.to_string(), "no answer within 5s");
        let (ours, _theirs) = duplex(1024);
        let late = GET.on(async { Ok::<_, Infallible>(ours) }).await.unwrap_err();
        assert!(matches!(late, GetError::Late(_)), "{late:?}");
    }

    #[tokio::test]
    async fn who_cannot_be_reached_says_so_itself() {
        let error = GET.on(async { Err::<DuplexStream, _>("nobody there") }).await.unwrap_err();
        assert_eq!(error.to_string(), "nobody there");
    }
}
