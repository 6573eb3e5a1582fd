//! HTTP/1.1 as far as the load needs it: bodies with a `content-length`, the same answer to every request; and to one
//! for [`ECHO_PATH`] the head that came.

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::wire::{ANSWER, ECHO_PATH};

/// Answers requests until the peer has no more.
pub async fn serve(mut stream: TcpStream) -> Result<()> {
    let answer = answer_with(&[b'x'; ANSWER]);
    let mut buffer = vec![0; 64 << 10];
    let mut filled = 0;
    loop {
        let (head, body) = loop {
            if let Some(lengths) = parse(buffer.get(..filled).unwrap_or_default())? {
                break lengths;
            }
            let read = stream.read(buffer.get_mut(filled..).unwrap_or_default()).await?;
            if read == 0 {
                return Ok(());
            }
            filled += read;
        };
        let echo = is_echo(&buffer).then(|| buffer.get(..head).unwrap_or_default().to_vec());
        let here = body.min(filled - head);
        let mut missing = body - here;
        buffer.copy_within(head + here..filled, 0);
        filled -= head + here;
        while missing > 0 {
            let room = missing.min(buffer.len());
            let read = stream.read(buffer.get_mut(..room).unwrap_or_default()).await?;
            ensure!(read > 0, "the peer left in the middle of a body");
            missing -= read;
        }
        stream.write_all(echo.map(|head| answer_with(&head)).as_deref().unwrap_or(&answer)).await?;
    }
}

fn is_echo(request: &[u8]) -> bool {
    request.strip_prefix(b"GET ").is_some_and(|rest| rest.starts_with(ECHO_PATH.as_bytes()))
}

fn answer_with(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The lengths of head and body of the first request, once its head is there.
fn parse(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(bytes)? else { return Ok(None) };
    let mut body = 0;
    for header in request.headers.iter() {
        ensure!(
            !header.name.eq_ignore_ascii_case("transfer-encoding"),
            "the load sends bodies with a length, and a proxy must keep it"
        );
        if header.name.eq_ignore_ascii_case("content-length") {
            body = std::str::from_utf8(header.value)?.parse().context("not a content-length")?;
        }
    }
    Ok(Some((head, body)))
}
