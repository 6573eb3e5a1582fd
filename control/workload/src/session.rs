//! The two streams of the Workload API, opened again whenever they end. Hears and passes on; what it means is the
//! watch's to say.

mod doubt;
mod pace;

use svidecar_api::{
    transport::{ConnectError, Endpoint},
    workload::{X509BundlesResponse, X509svidResponse},
};
use svidecar_authority::bundle::BundleSet;
use svidecar_process::clock;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use self::{
    doubt::Doubt,
    pace::{Pace, Was},
};
use crate::{
    client::{Client, ClientError, WaitFor},
    identity::IdentityState,
    material::{self, MaterialError},
};

/// What agents, SPIRE's too, begin an answer with when they cannot find out which process asks.
const NOT_ATTESTED: &str = "could not resolve caller information";

/// What was heard of the agent.
pub(crate) enum Heard {
    /// The identities of now. Bundles that come by themselves go before those in here.
    Svids { message: X509svidResponse, separate_bundles: bool },
    /// The bundles of now, or why the message is discarded.
    Bundles(Result<BundleSet, MaterialError>),
    /// There is no stream any more, or still none.
    Ended(Ended),
}

/// That a session with the agent ended.
pub(crate) struct Ended {
    pub(crate) state: IdentityState,
    pub(crate) detail: String,
    /// Whether what we have is taken back (I13).
    pub(crate) redacts: bool,
}

/// How a session ended.
struct End {
    state: IdentityState,
    detail: String,
    was: Was,
}

/// Keeps the streams open for as long as somebody listens.
pub(crate) async fn keep_open(endpoint: &Endpoint, heard: mpsc::Sender<Heard>) {
    let mut pace = Pace::default();
    let mut doubt = Doubt::default();
    // The first "no" is to be heard: it takes back what there was, and a person may wait for the reason. The next one may
    // take its time.
    let mut waits = WaitFor::Nothing;
    loop {
        let began = clock::timer();
        let mut session = Session { endpoint, heard: &heard, waits, delivered: false };
        let Ok(End { state, detail, was }) = session.run().await else { return };
        let served = session.delivered.then(|| clock::timer() - began);
        waits = match state {
            IdentityState::NotIssued => WaitFor::Entry,
            IdentityState::Unavailable => WaitFor::Agent,
            _ => WaitFor::Nothing,
        };
        let redacts = doubt.takes_back(state, served.is_some(), clock::timer());
        let wait = pace.wait(was, served, rand::random());
        if heard.send(Heard::Ended(Ended { state, detail, redacts })).await.is_err() {
            return;
        }
        tokio::time::sleep(wait).await;
    }
}

/// Nobody listens any more.
struct Unheard;

impl<T> From<mpsc::error::SendError<T>> for Unheard {
    fn from(_: mpsc::error::SendError<T>) -> Self {
        Self
    }
}

/// One connection.
struct Session<'a> {
    endpoint: &'a Endpoint,
    heard: &'a mpsc::Sender<Heard>,
    /// For what the agent may wait with its answer.
    waits: WaitFor,
    /// Whether there was an answer.
    delivered: bool,
}

impl Session<'_> {
    /// Both streams, until one ends.
    async fn run(&mut self) -> Result<End, Unheard> {
        let client = match Client::connect(self.endpoint).await {
            Ok(client) => client.waiting(self.waits),
            Err(error) => return Ok(cannot_connect(&error)),
        };
        let mut svids = match client.x509_svids().await {
            Ok(stream) => stream,
            Err(status) => return Ok(self.refused(&status)),
        };
        // The identities' own message carries bundles too; the second stream is a plus where the agent has it.
        let mut bundles = client.x509_bundles().await.ok();
        let mut separate_bundles = false;
        loop {
            tokio::select! {
                message = svids.message() => match message {
                    Ok(Some(message)) => {
                        self.delivered = true;
                        self.heard.send(Heard::Svids { message, separate_bundles }).await?;
                    }
                    Ok(None) => return Ok(self.lost("the agent ended the stream")),
                    Err(status) => return Ok(self.refused(&status)),
                },
                message = next_bundles(&mut bundles) => match message {
                    Ok(Some(message)) => {
                        let set = material::read_bundles(message.bundles);
                        separate_bundles |= set.is_ok();
                        self.heard.send(Heard::Bundles(set)).await?;
                    }
                    // The other stream says what is wrong, and until then it carries bundles too.
                    Ok(None) | Err(_) => {
                        separate_bundles = false;
                        bundles = None;
                    }
                },
            }
        }
    }

    fn refused(&self, status: &Status) -> End {
        let pid = std::process::id();
        match status.code() {
            Code::PermissionDenied if status.message().starts_with(NOT_ATTESTED) => End {
                state: IdentityState::NotAttested,
                detail: format!("the agent cannot tell which process asks it: {}", status.message()),
                was: Was::Refused,
            },
            Code::PermissionDenied => End {
                state: IdentityState::NotIssued,
                detail: format!(
                    "the agent has no registration entry for this process ({}); `svidecar-agent why --pid {pid}` (from a \
                     container: with the PID in the agent's log) shows its selectors and the closest entries",
                    status.message()
                ),
                was: Was::Refused,
            },
            Code::InvalidArgument => End {
                state: IdentityState::Invalid,
                detail: format!("the agent refuses our request: {}", status.message()),
                was: Was::Misunderstood,
            },
            Code::Unimplemented => End {
                state: IdentityState::Invalid,
                detail: format!("{} does not serve the X.509 Workload API", self.endpoint),
                was: Was::Refused,
            },
            _ if self.delivered => self.lost(status.message()),
            code => End {
                state: IdentityState::Unavailable,
                detail: format!("the agent cannot answer now ({code:?}: {})", status.message()),
                was: Was::Refused,
            },
        }
    }

    fn lost(&self, why: &str) -> End {
        End {
            state: IdentityState::StreamLost,
            detail: format!("the stream of the Workload API at {} ended: {why}", self.endpoint),
            was: Was::Refused,
        }
    }
}

fn cannot_connect(error: &ClientError) -> End {
    let state = match error {
        ClientError::Connect(ConnectError::Missing { .. }) => IdentityState::SocketMissing,
        ClientError::Connect(ConnectError::Refused { .. }) => IdentityState::SocketRefused,
        ClientError::Connect(ConnectError::Denied { .. }) => IdentityState::SocketDenied,
        _ => IdentityState::Unavailable,
    };
    let was = match state {
        IdentityState::SocketMissing | IdentityState::SocketRefused => Was::NobodyThere,
        _ => Was::Refused,
    };
    End { state, detail: error.to_string(), was }
}

/// Pends forever when there is no such stream.
async fn next_bundles(
    stream: &mut Option<Streaming<X509BundlesResponse>>,
) -> Result<Option<X509BundlesResponse>, Status> {
    match stream {
        Some(stream) => stream.message().await,
        None => std::future::pending().await,
    }
}
