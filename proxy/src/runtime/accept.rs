//! Accepts connections and hands each to the worker's [`Service`]. Waits when the limit is reached instead of
//! accepting what it cannot serve.

use std::{io, os::fd::AsFd as _, rc::Rc, sync::Arc};

use svidecar_code::Code;
use svidecar_config::address::ListenAddress;
use svidecar_process::{
    accept::{self, Comes},
    clock,
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    io::{Socket, address::PeerAddress},
    runtime::{
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
    /// The limit of connections, shared by all workers.
    pub limit: Arc<Semaphore>,
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
    let gate = Gate::new(&worker, direction, &listener.name, &listener.listen, &listener.limit);
    loop {
        let accepted = tokio::select! {
            () = listener.stop.cancelled() => return,
            _ = phase.wait_for(|phase| reaches(*phase, direction)) => return,
            accepted = accept(&listening) => accepted,
        };
        let (socket, address) = match accepted {
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
        // One accepted connection per worker may wait for its turn; a permit taken before it came would be missing
        // to the other workers.
        let permit = tokio::select! {
            () = listener.stop.cancelled() => return,
            _ = phase.wait_for(|phase| reaches(*phase, direction)) => return,
            permit = admit(&worker, &listener.name, &listener.limit) => permit,
        };
        let Some(permit) = permit else { return };
        let accepted = Accepted { socket, address, life: gate.enter(permit) };
        service.serve(direction, &listener.name, accepted);
    }
}

/// Waits for a place among the connections of the listener.
async fn admit(worker: &Worker, name: &str, limit: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(limit).try_acquire_owned() {
        return Some(permit);
    }
    if let Some(leave) = worker.shared.throttle.leave(clock::monotonic()) {
        warn!(
            listener = name,
            code = Code::TooManyConnections.name(),
            kept_back = leave.kept_back,
            "max_connections is reached; new connections wait"
        );
    }
    Arc::clone(limit).acquire_owned().await.ok()
}

async fn accept(listening: &Listening) -> io::Result<(Socket, PeerAddress)> {
    match listening {
        Listening::Tcp(listening) => {
            let (stream, address) = listening.accept().await?;
            Ok((Socket::accepted(stream), PeerAddress::Tcp(address)))
        }
        Listening::Unix(listening) => {
            let (stream, _) = listening.accept().await?;
            let pid = stream.peer_cred().ok().and_then(|credentials| credentials.pid());
            Ok((Socket::unix(stream), PeerAddress::Unix(pid)))
        }
    }
}

fn register(socket: ListenSocket) -> io::Result<Listening> {
    match socket {
        ListenSocket::Tcp(socket) => TcpListener::from_std(socket).map(Listening::Tcp),
        ListenSocket::Unix(socket) => UnixListener::from_std(socket).map(Listening::Unix),
    }
}
