//! Callers over TCP: a stream without end, a connection for each exchange, or many connections that do nothing.

use std::cell::RefCell;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use svidecar_process::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::tally::Tally;
use crate::wire::{ECHO, STREAM, TCP_MESSAGE};

/// One exchange.
pub async fn probe(target: SocketAddr) -> Result<()> {
    exchange(target).await.map(drop)
}

/// Exchanges on a connection each until one fails.
pub async fn connect(target: SocketAddr, tally: &RefCell<Tally>) -> Result<()> {
    loop {
        let start = clock::monotonic();
        drop(exchange(target).await?);
        tally.borrow_mut().done(clock::monotonic() - start, TCP_MESSAGE);
    }
}

/// Reads a stream until it fails.
pub async fn bulk(target: SocketAddr, tally: &RefCell<Tally>) -> Result<()> {
    let mut stream = open(target).await?;
    stream.write_all(&[STREAM; TCP_MESSAGE]).await?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = stream.read(&mut buffer).await?;
        ensure!(read > 0, "the stream has ended");
        tally.borrow_mut().received(read);
    }
}

/// Opens connections one after the other, with one exchange on each, so that each leads to the app.
pub async fn hold(target: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(count);
    for number in 1..=count {
        held.push(exchange(target).await.with_context(|| format!("connection {number} of {count}"))?);
    }
    Ok(held)
}

async fn open(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(target).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn exchange(target: SocketAddr) -> Result<TcpStream> {
    let mut stream = open(target).await?;
    let message = [ECHO; TCP_MESSAGE];
    stream.write_all(&message).await.context("cannot send")?;
    let mut answer = [0; TCP_MESSAGE];
    stream.read_exact(&mut answer).await.context("no answer")?;
    ensure!(answer == message, "another answer than what was sent");
    Ok(stream)
}
