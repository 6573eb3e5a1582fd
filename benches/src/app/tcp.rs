//! Bytes: sends a message back, or sends without end; the message's first byte says which.

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::wire::{STREAM, TCP_MESSAGE};

/// Answers messages until the peer has no more.
pub async fn serve(mut stream: TcpStream) -> Result<()> {
    let mut message = [0; TCP_MESSAGE];
    loop {
        stream.read_exact(&mut message).await?;
        if message.first() == Some(&STREAM) {
            let bytes = vec![b'x'; 256 << 10];
            loop {
                stream.write_all(&bytes).await?;
            }
        }
        stream.write_all(&message).await?;
    }
}
