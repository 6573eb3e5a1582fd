//! Accepts connections and hands each to the worker's [`Service`].
//!
//! Never waits for a place: whoever comes has one among the strangers, and what it gets beyond that is its own to ask for.

use std::{io, os::fd::AsFd as _, rc::Rc, sync::Arc};

use svidecar_config::address::ListenAddress;
use svidecar_process::{
    Source,
    accept::{self, Comes},
};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    io::{Socket, address::PeerAddress},
    runtime::{
        budgets::Budgets,
        drain::{Direction, reaches},
        life::{Accepted, Gate},
        sockets::ListenSocket,
        worker::Worker,
    },
};

/// One worker's part of a listener.
pub struct Listener {
    /// The listener's name in the settings.
    pub name: Arc<str>,
    /// Which list of the settings it is in.
    pub direction: Direction,
    /// What the settings call its address.
    pub listen: ListenAddress,
    /// This worker's socket.
    pub socket: ListenSocket,
    /// What its connections may spend, shared by all workers.
    pub budgets: Arc<Budgets>,
    /// Ends this listener alone.
    pub stop: CancellationToken,
}

/// What becomes of the connections that a worker accepts; one for each worker.
pub trait Service {
    /// Serves a connection that came to the listener of that name, from the first byte to the last, in a task of its
    /// worker.
    fn serve(&self, direction: Direction, listener: &Arc<str>, accepted: Accepted);
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Accepts until the listener is stopped or its direction drains.
pub async fn run(worker: Rc<Worker>, service: Rc<dyn Service>, listener: Listener) {
    let listening = match register(listener.socket) {
        Ok(listening) => listening,
        Err(error) => {
            warn!(listener = %listener.name, %error, "A worker cannot use its listening socket");
            return;
        }
    };
    let mut phase = worker.shared.drain.subscribe();
    let direction = listener.direction;
    let gate = Gate::new(&worker, direction, &listener.name, &listener.listen, &listener.budgets);
    loop {
        let accepted = tokio::select! {
            () = listener.stop.cancelled() => return,
            _ = phase.wait_for(|phase| reaches(*phase, direction)) => return,
            accepted = accept(&listening) => accepted,
        };
        let (socket, address, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                accept::failed(&error).await;
                continue;
            }
        };
        if !(Comes::Anybody { whose: direction.as_str() }).keep(socket.as_fd()) {
            worker.shared.shortage.tell();
            continue;
        }
        let accepted = Accepted { socket, address, life: gate.enter(source) };
        service.serve(direction, &listener.name, accepted);
    }
}

async fn accept(listening: &Listening) -> io::Result<(Socket, PeerAddress, Source)> {
    match listening {
        Listening::Tcp(listening) => {
            let (stream, address) = listening.accept().await?;
            Ok((Socket::accepted(stream), PeerAddress::Tcp(address), Source::from(address.ip())))
        }
        Listening::Unix(listening) => {
            let (stream, _) = listening.accept().await?;
            let credentials = stream.peer_cred().ok();
            let pid = credentials.as_ref().and_then(tokio::net::unix::UCred::pid);
            let source = credentials.map_or(Source::Unknown, |credentials| Source::User(credentials.uid()));
            Ok((Socket::unix(stream), PeerAddress::Unix(pid), source))
        }
    }
}

fn register(socket: ListenSocket) -> io::Result<Listening> {
    match socket {
        ListenSocket::Tcp(socket) => TcpListener::from_std(socket).map(Listening::Tcp),
        ListenSocket::Unix(socket) => UnixListener::from_std(socket).map(Listening::Unix),
    }
}
