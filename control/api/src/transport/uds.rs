//! Unix sockets: bound without a window in which they have the wrong mode, and dialled with errors
//! that say what to do.

use std::{
    error::Error as StdError,
    io,
    os::fd::{AsFd, BorrowedFd},
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use socket2::{Domain, SockAddr, Socket, Type};
use svidecar_code::Code;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint as TonicEndpoint};
use tower::service_fn;

use super::Usual;

/// How long a full accept queue or an exhausted descriptor table is waited out before the next accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// Why a socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The path has no directory.
    #[error("{path} is not a path of a socket; expected an absolute path such as /run/svidecar/api.sock")]
    NoDirectory {
        /// As configured.
        path: PathBuf,
    },
    /// A directory on the way belongs to somebody who could put another socket there.
    #[error(
        "{directory} belongs to user {owner}, who could replace the socket in it; expected user {expected} or root: choose another path, or change the owner"
    )]
    ForeignDirectory {
        /// The directory.
        directory: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        expected: u32,
    },
    /// A directory on the way may be written by everybody.
    #[error(
        "{directory} may be written by everybody (mode {mode:04o}) and has no sticky bit, so that anybody could replace the socket in it: `chmod o-w {directory}`, or choose another path"
    )]
    OpenDirectory {
        /// The directory.
        directory: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Another process listens there.
    #[error("{path} is already served by another process; stop that one, or choose another path")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// A file that is no socket.
    #[error("{path} exists and is not a socket; remove it, or choose another path")]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The system said no.
    #[error("cannot listen on {path}: {error}")]
    Io {
        /// The socket or its directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

/// Why a socket cannot be dialled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nothing at that path.
    #[error("there is no socket {path}; is the process that serves it running, and with this path?")]
    Missing {
        /// The socket.
        path: PathBuf,
    },
    /// A socket that nobody listens on.
    #[error("nobody listens on {path}; the process that served it has ended")]
    Refused {
        /// The socket.
        path: PathBuf,
    },
    /// The mode of the socket or of a directory on the way.
    #[error("permission denied for {path}; run as its owner, or as a user who may open it")]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// Served by somebody who is neither root nor us.
    #[error(
        "{path} is served by user {owner}, who could say and hear anything there; expected root or user {expected}: if that \
         is whom you mean, run this as that user"
    )]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// Who serves it.
        owner: u32,
        /// Who we are.
        expected: u32,
    },
    /// Anything else.
    #[error("cannot connect to {path}: {error}")]
    Other {
        /// The socket.
        path: PathBuf,
        /// What the transport said.
        #[source]
        error: Box<dyn StdError + Send + Sync>,
    },
}

impl ConnectError {
    /// A stable name for logs and metrics.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Missing { .. } => Code::SocketMissing,
            Self::Refused { .. } => Code::SocketRefused,
            Self::Denied { .. } => Code::SocketPermissionDenied,
            Self::Foreign { .. } => Code::SocketForeign,
            Self::Other { .. } => Code::SocketError,
        }
    }

    fn of_io(path: &Path, kind: Option<io::ErrorKind>, error: Box<dyn StdError + Send + Sync>) -> Self {
        let path = path.to_owned();
        match kind {
            Some(io::ErrorKind::NotFound) => Self::Missing { path },
            Some(io::ErrorKind::ConnectionRefused) => Self::Refused { path },
            Some(io::ErrorKind::PermissionDenied) => Self::Denied { path },
            _ => Self::Other { path, error },
        }
    }
}

/// Who may serve a socket.
#[derive(Clone, Copy)]
enum Whose {
    Anybodys,
    /// Root's or our own.
    Ours,
}

/// The socket is served by this user, and was to be by root or by us.
#[derive(Debug, thiserror::Error)]
#[error("it is served by user {owner}")]
struct Foreign {
    owner: u32,
}

/// Opens a gRPC channel over a Unix socket. The channel dials again by itself after the peer went away.
///
/// # Errors
/// [`ConnectError`] when the first dial fails.
pub async fn connect(path: impl AsRef<Path>) -> Result<Channel, ConnectError> {
    open(path.as_ref(), Whose::Anybodys).await
}

/// As [`connect`], to an administration socket: nothing is said to, or believed of, who is neither root nor our own user.
///
/// # Errors
/// As [`connect`]; and [`ConnectError::Foreign`].
pub async fn connect_to_ours(path: impl AsRef<Path>) -> Result<Channel, ConnectError> {
    open(path.as_ref(), Whose::Ours).await
}

/// As [`connect`], to the socket that nobody named, and to the same one from then on. Where anybody can have made it, who
/// serves it has to be root or our own user.
///
/// # Errors
/// As [`connect_to_ours`].
pub async fn connect_to_usual(usual: &Usual) -> Result<Channel, ConnectError> {
    let path = usual.path().to_owned();
    let channel = open(&path, if usual.is_anybodys(&path) { Whose::Ours } else { Whose::Anybodys }).await?;
    usual.keep(&path);
    Ok(channel)
}

async fn dial(path: &Path, whose: Whose) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path).await?;
    let owner = stream.peer_cred()?.uid();
    match whose {
        Whose::Ours if owner != 0 && owner != rustix::process::geteuid().as_raw() => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, Foreign { owner }))
        }
        _ => Ok(stream),
    }
}

async fn open(path: &Path, whose: Whose) -> Result<Channel, ConnectError> {
    let target = path.to_owned();
    let connector = service_fn(move |_| {
        let target = target.clone();
        async move { dial(&target, whose).await.map(TokioIo::new) }
    });
    // The authority is what servers see as `:authority`; for a Unix socket it is `localhost` by custom.
    TonicEndpoint::from_static("http://localhost").connect_with_connector(connector).await.map_err(|error| {
        let io = io_error(&error);
        let kind = io.map(io::Error::kind);
        let foreign = io.and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref::<Foreign>());
        match foreign.map(|foreign| foreign.owner) {
            Some(owner) => {
                let expected = rustix::process::geteuid().as_raw();
                ConnectError::Foreign { path: path.to_owned(), owner, expected }
            }
            None => ConnectError::of_io(path, kind, error.into()),
        }
    })
}

/// Finds the system's error below what a transport wrapped around it.
fn io_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}

/// A listening Unix socket; its file goes away with it.
#[derive(Debug)]
pub struct Listener {
    inner: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, so that a successor's socket at the same path is never removed.
    file: (u64, u64),
    keeps: fn(BorrowedFd<'_>) -> bool,
}

impl Listener {
    /// Listens on `path` with the file mode `mode`. Missing directories are made with `directory_mode`.
    /// A socket that nobody listens on any more is replaced; one that is served is not.
    ///
    /// # Errors
    /// [`BindError`]; among others when somebody else could replace the socket.
    pub async fn bind(path: impl AsRef<Path>, mode: u32, directory_mode: u32) -> Result<Self, BindError> {
        let given = path.as_ref();
        // Every directory above it is checked, so that a relative path is resolved first.
        let path =
            &*std::path::absolute(given).map_err(|error| BindError::Io { path: given.to_owned(), error })?;
        let io_error = |error| BindError::Io { path: path.to_owned(), error };
        let Some(directory) = path.parent() else {
            return Err(BindError::NoDirectory { path: path.to_owned() });
        };
        // Those above it are for all to go through: another program's socket may be beside it.
        if let Some(above) = directory.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(above).map_err(io_error)?;
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(directory_mode)
            .create(directory)
            .map_err(io_error)?;
        check_directories(directory)?;
        remove_stale(path).await?;

        // Nobody can connect between bind and listen, so that the mode is right before the first connection.
        let socket =
            Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None).map_err(io_error)?;
        let address = SockAddr::unix(path).map_err(io_error)?;
        socket.bind(&address).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { path: path.to_owned() },
            _ => io_error(error),
        })?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(io_error)?;
        socket.listen(BACKLOG).map_err(io_error)?;
        let metadata = std::fs::symlink_metadata(path).map_err(io_error)?;
        let inner = UnixListener::from_std(socket.into()).map_err(io_error)?;
        let file = (metadata.dev(), metadata.ino());
        Ok(Self { inner, path: path.to_owned(), file, keeps: |_| true })
    }

    /// Closes connections at once that `keeps` does not want to be kept, such as when descriptors are short.
    #[must_use]
    pub fn keeping(mut self, keeps: fn(BorrowedFd<'_>) -> bool) -> Self {
        self.keeps = keeps;
        self
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection. What is temporary (an exhausted descriptor table) is waited out.
    pub async fn accept(&self) -> UnixStream {
        loop {
            match self.inner.accept().await {
                Ok((stream, _)) if (self.keeps)(stream.as_fd()) => return stream,
                Ok(_) => {}
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    /// The connections as a stream for a tonic server; `UdsConnectInfo` carries the peer's credentials.
    pub fn incoming(self) -> impl Stream<Item = io::Result<UnixStream>> + Send {
        futures_util::stream::unfold(self, |listener| async move {
            let stream = listener.accept().await;
            Some((Ok(stream), listener))
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.file);
        if ours {
            // A file that stays behind is recognized as stale by the next bind.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// Refuses directories in which somebody else could put another socket in place of ours.
fn check_directories(directory: &Path) -> Result<(), BindError> {
    let us = rustix::process::geteuid().as_raw();
    let real =
        directory.canonicalize().map_err(|error| BindError::Io { path: directory.to_owned(), error })?;
    for directory in real.ancestors() {
        let metadata =
            directory.metadata().map_err(|error| BindError::Io { path: directory.to_owned(), error })?;
        check_directory(directory, metadata.uid(), metadata.mode(), us)?;
    }
    Ok(())
}

fn check_directory(directory: &Path, owner: u32, mode: u32, us: u32) -> Result<(), BindError> {
    if owner != us && owner != 0 {
        return Err(BindError::ForeignDirectory { directory: directory.to_owned(), owner, expected: us });
    }
    if mode & 0o002 != 0 && mode & 0o1000 == 0 {
        return Err(BindError::OpenDirectory { directory: directory.to_owned(), mode: mode & 0o7777 });
    }
    Ok(())
}

/// Removes what a process that has ended left behind.
async fn remove_stale(path: &Path) -> Result<(), BindError> {
    let io_error = |error| BindError::Io { path: path.to_owned(), error };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(io_error)
        }
        _ => Err(BindError::InUse { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests;
