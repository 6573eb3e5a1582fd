//! The network between an agent and the server: a relay of TCP that can be cut.
//!
//! Owns the connections through it. It must never look into them: what it carries is TLS.

use std::{io, net::SocketAddr};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
};

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// All passes.
    Fair,
    /// Connections are reset, new ones at once.
    Refusing,
    /// Nothing passes, and nobody says so. What was on the way arrives when it is fair again, as TCP does it.
    Silent,
}

/// One relay.
pub struct Link {
    /// Where the agent connects.
    pub address: SocketAddr,
    weather: watch::Sender<Weather>,
}

impl Link {
    /// Carries to `server` what connects to a port of its own.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for a link")?;
        let address = listener.local_addr()?;
        let weather = watch::Sender::new(Weather::Fair);
        tokio::spawn(accept(listener, server, weather.subscribe()));
        Ok(Self { address, weather })
    }

    /// From now on it is like this.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, weather: watch::Receiver<Weather>) {
    while let Ok((stream, _)) = listener.accept().await {
        let weather = weather.clone();
        tokio::spawn(async move {
            // How a connection ended is the business of its two ends.
            relay(stream, server, weather).await.ok();
        });
    }
}

async fn relay(
    agent: TcpStream,
    server: SocketAddr,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    // Closed by a reset, whichever way this ends but by both ends' own.
    agent.set_zero_linger()?;
    agent.set_nodelay(true)?;
    if *weather.borrow() == Weather::Refusing {
        return Ok(());
    }
    let Ok(_) = weather.wait_for(|weather| *weather != Weather::Silent).await else { return Ok(()) };
    let server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    let (agent_reads, agent_writes) = agent.into_split();
    let (server_reads, server_writes) = server.into_split();
    let (there, back) = (weather.clone(), weather.clone());
    tokio::select! {
        _ = weather.wait_for(|weather| *weather == Weather::Refusing) => Ok(()),
        done = async {
            tokio::try_join!(carry(agent_reads, server_writes, there), carry(server_reads, agent_writes, back))
        } => done.map(drop),
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if weather.wait_for(|weather| *weather != Weather::Silent).await.is_err() {
            return Ok(());
        }
        match buffer.get(..read) {
            Some(some) if read > 0 => to.write_all(some).await?,
            _ => return to.shutdown().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reads, mut writes) = stream.split();
                    tokio::io::copy(&mut reads, &mut writes).await.ok();
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn what_was_silent_arrives_and_what_is_refused_does_not() {
        let link = Link::to(echo().await).await.unwrap();
        let mut client = TcpStream::connect(link.address).await.unwrap();
        let mut answer = [0; 1];
        client.write_all(b"a").await.unwrap();
        client.read_exact(&mut answer).await.unwrap();

        link.set(Weather::Silent);
        client.write_all(b"b").await.unwrap();
        let nothing = async {
            // The relay has read it, if it ever will.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            read = client.read_exact(&mut answer) => panic!("{read:?}"),
            () = nothing => {}
        }
        link.set(Weather::Fair);
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"b");

        link.set(Weather::Refusing);
        assert!(client.read_exact(&mut answer).await.is_err());
        let mut next = TcpStream::connect(link.address).await.unwrap();
        assert!(!next.read(&mut answer).await.is_ok_and(|read| read > 0));
    }
}
