//! Accepts connections and hands each to its listener's way of a request. Waits when the limit is reached instead of
//! accepting what it cannot serve.

use std::{
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    codes,
    forward::{inbound, outbound},
    io::{Socket, address::PeerAddress},
    runtime::{
        drain::{Direction, LiveGuard, reaches},
        sockets::ListenSocket,
        worker::Worker,
    },
};

/// When the process is out of descriptors, accepting again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One worker's part of a listener.
pub struct Listener {
    /// The listener's name in the settings.
    pub name: Arc<str>,
    /// Which list of the settings it is in.
    pub direction: Direction,
    /// This worker's socket.
    pub socket: ListenSocket,
    /// The limit of connections, shared by all workers.
    pub limit: Arc<Semaphore>,
    /// Ends this listener alone.
    pub stop: CancellationToken,
}

/// A connection as it was accepted.
pub struct Accepted {
    /// The bytes.
    pub socket: Socket,
    /// The other end.
    pub address: PeerAddress,
    /// Its place among the live connections.
    pub life: Life,
}

/// A place among the live connections of a listener. Kept until the last byte of a connection has gone through, even when
/// it outlives its HTTP.
pub struct Life {
    gate: Rc<Gate>,
    _live: LiveGuard,
    _permit: OwnedSemaphorePermit,
}

/// Where the connections of a listener are counted.
struct Gate {
    worker: Rc<Worker>,
    direction: Direction,
    limit: Arc<Semaphore>,
    open: Gauge,
}

impl Gate {
    fn enter(self: &Rc<Self>, permit: OwnedSemaphorePermit) -> Life {
        self.open.inc();
        let live = self.worker.shared.drain.enter(self.direction);
        Life { gate: Rc::clone(self), _live: live, _permit: permit }
    }
}

impl Life {
    /// A place for one more connection, which came inside of this one; none when the listener has as many as it may.
    #[must_use]
    pub fn another(&self) -> Option<Self> {
        let permit = Arc::clone(&self.gate.limit).try_acquire_owned().ok()?;
        Some(self.gate.enter(permit))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.gate.open.dec();
    }
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Accepts until the listener is stopped or its direction drains.
pub async fn run(worker: Rc<Worker>, listener: Listener) {
    let listening = match register(listener.socket) {
        Ok(listening) => listening,
        Err(error) => {
            warn!(listener = %listener.name, %error, "A worker cannot use its listening socket");
            return;
        }
    };
    let mut phase = worker.shared.drain.subscribe();
    let direction = listener.direction;
    let open = worker.shared.telemetry.state().open_connections(direction, &listener.name);
    let limit = Arc::clone(&listener.limit);
    let gate = Rc::new(Gate { worker: Rc::clone(&worker), direction, limit, open });
    loop {
        let accepted = tokio::select! {
            () = listener.stop.cancelled() => return,
            _ = phase.wait_for(|phase| reaches(*phase, direction)) => return,
            accepted = accept(&listening) => accepted,
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_of_one_connection(&error) {
                    warn!(listener = %listener.name, %error, "Cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        // One accepted connection per worker may wait for its turn; a permit taken before it came would be missing
        // to the other workers.
        let permit = tokio::select! {
            () = listener.stop.cancelled() => return,
            _ = phase.wait_for(|phase| reaches(*phase, direction)) => return,
            permit = admit(&worker, &listener.name, &listener.limit) => permit,
        };
        let Some(permit) = permit else { return };
        let accepted = Accepted { socket, address, life: gate.enter(permit) };
        let (this, name) = (Rc::clone(&worker), Arc::clone(&listener.name));
        match direction {
            Direction::Inbound => worker.spawn(inbound::serve(this, name, accepted)),
            Direction::Outbound => worker.spawn(outbound::serve(this, name, accepted)),
        }
    }
}

/// Waits for a place among the connections of the listener.
async fn admit(worker: &Worker, name: &str, limit: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(limit).try_acquire_owned() {
        return Some(permit);
    }
    if let Some(leave) = worker.shared.throttle.leave(Instant::now()) {
        warn!(
            listener = name,
            code = codes::TOO_MANY_CONNECTIONS,
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

/// Errors that concern only the connection that was about to be accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
