//! Taking connections, also when descriptors are short.
//!
//! Owns what is waited out and what is refused. A connection of a stranger is never taken into the reserve of
//! [`descriptors`]; it is closed, so that accepting goes on and those who hold most can be told to end.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

use crate::descriptors;

/// How long an error is waited out that the next accept would meet again.
const PAUSE: Duration = Duration::from_millis(50);

/// Who comes to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comes {
    /// Whoever can reach it. What `whose` says is a word for the log: which connections these are.
    Anybody {
        /// As in "workload", "server".
        whose: &'static str,
    },
    /// Operators and probes, for whom the reserve is.
    Operators,
}

impl Comes {
    /// Whether a connection of theirs may keep its descriptor. One that may not is counted, and to be closed.
    pub fn keep(self, descriptor: BorrowedFd<'_>) -> bool {
        match self {
            Self::Anybody { whose } if !descriptors::table().admits(descriptor) => {
                descriptors::refused(whose);
                false
            }
            _ => true,
        }
    }
}

/// The next connection that may be kept. What is temporary is waited out. Cancel safe.
pub async fn tcp(listener: &TcpListener, comes: Comes) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) if comes.keep(stream.as_fd()) => return (stream, address),
            Ok(_) => {}
            Err(error) => failed(&error).await,
        }
    }
}

/// After an accept that failed: waits, if the next one would fail in the same way.
pub async fn failed(error: &io::Error) {
    if is_of_one_connection(error) {
        return;
    }
    if descriptors::is_exhausted(error) {
        descriptors::refused("any");
    } else {
        warn!(%error, "Cannot accept connections");
    }
    tokio::time::sleep(PAUSE).await;
}

/// Errors that concern only the connection that was about to be accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn only_what_the_next_accept_would_meet_again_is_waited_out() {
        let start = clock::timer();
        failed(&io::ErrorKind::ConnectionAborted.into()).await;
        assert_eq!(clock::timer(), start);
        failed(&rustix::io::Errno::MFILE.into()).await;
        assert_eq!(clock::timer() - start, PAUSE);
    }

    #[tokio::test]
    async fn connections_come_as_they_are() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_, address) = tcp(&listener, Comes::Anybody { whose: "test" }).await;
        assert_eq!(address, client.local_addr().unwrap());
    }
}
