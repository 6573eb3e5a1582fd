//! What can stop the proxy as a whole. What goes wrong with one connection or one request is in
//! [`handshake`](crate::runtime::handshake) and [`refusal`](crate::message::refusal).

use std::{io, time::Duration};

use svidecar_code::Code;
use svidecar_config::diagnostic::Diagnostics;
use svidecar_process::{WrapperError, tasks::Lost};

/// Why the proxy does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The settings, or a policy that they name, are not valid.
    #[error("{0}")]
    Config(#[from] Diagnostics),
    /// A file that the settings name cannot be read.
    #[error("{0}")]
    ReadFile(Diagnostics),
    /// A listener's address cannot be bound.
    #[error(
        "listener `{listener}` cannot listen on {address}: {source}; free the address or change `listen`"
    )]
    Bind {
        /// The listener's name in the settings.
        listener: String,
        /// The address that was asked for.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The address of the Workload API is not one.
    #[error("workload_api: {0}")]
    WorkloadApi(String),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// Logging cannot be set up.
    #[error("log: {0}")]
    Log(String),
    /// Something that a process needs from the system was refused.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The app cannot be run.
    #[error(transparent)]
    App(#[from] WrapperError),
    /// All network interfaces have gone, and `on_network_loss` is `exit`.
    #[error(
        "the network is gone: {} disappeared and nothing came back within {} s, so nobody can reach this proxy. The \
         container whose network it shares was probably started again. Ending, as on_network_loss: exit asks for; a \
         restart policy starts it in the new network, else start it again yourself", interfaces.join(", "), after.as_secs()
    )]
    NetworkLost {
        /// The interfaces that were there.
        interfaces: Vec<String>,
        /// How long they were waited for.
        after: Duration,
    },
    /// A worker thread ended although nobody asked it to.
    #[error("worker {index} ended unexpectedly; this is a defect of svidecar, please report it")]
    WorkerEnded {
        /// Which worker.
        index: usize,
    },
    /// A task that the proxy cannot do without ended.
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl ProxyError {
    /// The stable name of the error, for logs and scripts.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Config(_) => Code::InvalidConfiguration,
            Self::ReadFile(_) => Code::UnreadableFile,
            Self::Bind { .. } => Code::CannotListen,
            Self::WorkloadApi(_) => Code::InvalidWorkloadApi,
            Self::Tls(_) => Code::TlsSetupFailed,
            Self::Log(_) => Code::InvalidLog,
            Self::System { .. } => Code::SystemRefused,
            Self::App(error) => error.code(),
            Self::NetworkLost { .. } => Code::NetworkLost,
            Self::WorkerEnded { .. } => Code::WorkerEnded,
            Self::Lost(lost) => lost.code(),
        }
    }

    /// Whether the configuration is at fault, which an exit code of its own (64) tells scripts.
    #[must_use]
    pub const fn is_config(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::ReadFile(_)
                | Self::WorkloadApi(_)
                | Self::Log(_)
                | Self::App(WrapperError::NoCommand)
        )
    }
}
