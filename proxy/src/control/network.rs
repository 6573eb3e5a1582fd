//! The network that the proxy lives in, and whether it is still there.
//!
//! A container that shares another one's network namespace stays behind in a dead one when that other container starts
//! again: the kernel takes the interfaces away, and no runtime notices. The kernel says when interfaces come and go
//! (rtnetlink(7), group `RTMGRP_LINK`); what they say is not parsed, but taken as the moment to look again. Never
//! polls, and decides nothing about what becomes of the process.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    net::if_::InterfaceFlags,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};
use svidecar_process::clock;
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::timeout_at,
};
use tracing::warn;

/// How long the network may be away before it counts as lost: a container engine that moves a container to another
/// network takes one interface away before it brings the next.
pub const GRACE: Duration = Duration::from_secs(5);

/// Follows the interfaces of our network namespace.
pub struct NetworkWatch {
    changes: AsyncFd<OwnedFd>,
    interfaces: Interfaces,
}

impl NetworkWatch {
    /// Subscribes, and notes the interfaces that are there.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn start() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        let groups = u32::try_from(nix::libc::RTMGRP_LINK).unwrap_or_default();
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an owned descriptor lives as long as its registration"
        )]
        let changes = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self { changes, interfaces: Interfaces::default() })
    }

    /// Waits until all interfaces that ever connected us have been gone for [`GRACE`], and gives their names.
    pub async fn lost(&mut self) -> Vec<String> {
        let changes = &self.changes;
        lost(&mut self.interfaces, async || next_change(changes).await, links, GRACE).await
    }
}

/// Reads away all that the kernel has said. What does not fit or was lost matters no less: something has changed.
async fn next_change(changes: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let mut ready = changes.readable().await?;
    let mut buffer = [0; 4096];
    loop {
        match recv(changes.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                ready.clear_ready();
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// An interface as the kernel lists it.
struct Link {
    name: String,
    /// It is no loopback, and set up: tunnels that the kernel puts into each namespace are down.
    connects: bool,
}

fn links() -> io::Result<Vec<Link>> {
    let connecting = |flags: InterfaceFlags| {
        flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
    };
    let all = getifaddrs()?;
    Ok(all.map(|entry| Link { connects: connecting(entry.flags), name: entry.interface_name }).collect())
}

/// The interfaces that connected us, of which at least one was there at the last look.
#[derive(Default)]
struct Interfaces {
    known: BTreeSet<String>,
}

impl Interfaces {
    /// Notes what is there now, and whether that leaves none of those that were. One that is only set down is there.
    fn all_gone(&mut self, now: &[Link]) -> bool {
        self.known.extend(now.iter().filter(|link| link.connects).map(|link| link.name.clone()));
        !self.known.is_empty() && !now.iter().any(|link| self.known.contains(&link.name))
    }

    /// Forgets those that are gone, once all are: what comes next is a new network.
    fn forget(&mut self) -> Vec<String> {
        std::mem::take(&mut self.known).into_iter().collect()
    }
}

/// Looks after each change until nothing has been there for `grace`. A look that fails is as if nothing had changed.
async fn lost(
    interfaces: &mut Interfaces,
    mut changed: impl AsyncFnMut() -> io::Result<()>,
    mut look: impl FnMut() -> io::Result<Vec<Link>>,
    grace: Duration,
) -> Vec<String> {
    let mut deadline = None;
    loop {
        match look() {
            Ok(now) if interfaces.all_gone(&now) => {
                deadline = deadline.or_else(|| clock::timer().checked_add(grace));
            }
            Ok(_) => deadline = None,
            Err(error) => warn!(%error, "Cannot list the network interfaces"),
        }
        let change = match deadline {
            None => changed().await,
            Some(deadline) => match timeout_at(deadline, changed()).await {
                Ok(change) => change,
                Err(_) => return interfaces.forget(),
            },
        };
        if let Err(error) = change {
            warn!(%error, "Network interfaces cannot be followed any more; a lost network will not be noticed");
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests;
