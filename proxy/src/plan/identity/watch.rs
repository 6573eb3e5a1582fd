//! Keeps the identity of the snapshot current: holds the two streams of the Workload API open, reconnects when they
//! end, forgets what the agent takes back.
//!
//! The one place that writes identities. Never exits because the agent is away.

use std::{sync::Arc, time::Duration};

use prometheus_client::metrics::counter::Counter;
use rustls_pki_types::UnixTime;
use svidecar_api::{
    transport::{ConnectError, Endpoint},
    workload::{X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse},
};
use svidecar_authority::{bundle::BundleSet, time};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status as GrpcStatus, Streaming};
use tracing::{error, info, warn};

use super::{
    Identity, IdentityState, Status, Svid,
    backoff::Backoff,
    client::{self, Client, ClientError},
    material::{self, Choice},
};
use crate::plan::snapshot::Current;

/// An agent renews at half life. When only this share of the life is left, something is wrong.
const WARN_AT: f64 = 0.35;
/// Now somebody has to act.
const ALARM_AT: f64 = 0.15;

/// What agents, SPIRE's too, begin an answer with when they cannot find out which process asks.
const NOT_ATTESTED: &str = "could not resolve caller information";

/// What the watch needs to know.
pub struct IdentityWatch {
    /// Where the Workload API listens.
    pub endpoint: Endpoint,
    /// Which identity to present.
    pub choice: Choice,
    /// What to keep current.
    pub current: Arc<Current>,
    /// Counts the SVIDs that were taken into use.
    pub updates: Counter,
}

/// How a session with the agent ended.
struct Ended {
    state: IdentityState,
    detail: String,
    /// Whether what we have is taken back (I13).
    redacts: bool,
    /// Whether asking again makes sense (I6).
    retry: bool,
}

impl IdentityWatch {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep_streams_open() => {}
            () = self.watch_expiry() => {}
        }
    }

    async fn keep_streams_open(&self) {
        let mut backoff = Backoff::default();
        loop {
            let mut delivered = false;
            let ended = self.session(&mut delivered).await;
            self.note(&ended);
            if !ended.retry {
                return std::future::pending().await;
            }
            if delivered {
                // A stream that worked and ended is opened again at once (I8).
                backoff.reset();
            }
            let wait = if delivered { Duration::ZERO } else { backoff.wait(rand::random()) };
            tokio::time::sleep(wait).await;
        }
    }

    /// One connection: both streams, until one ends.
    async fn session(&self, delivered: &mut bool) -> Ended {
        let mut client = match client::connect(&self.endpoint).await {
            Ok(client) => client,
            Err(error) => return self.cannot_connect(&error),
        };
        let mut svids = match client.fetch_x509svid(client::request(X509svidRequest {})).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => return self.refused(&status, false),
        };
        // The identities' own message carries bundles too; the second stream is a plus where the agent has it.
        let mut bundles = open_bundles(client.clone()).await;
        let mut separate_bundles = false;
        loop {
            tokio::select! {
                message = svids.message() => match message {
                    Ok(Some(message)) => {
                        *delivered = true;
                        if let Err(ended) = self.take_svids(message, separate_bundles) {
                            warn!(error = ended.detail, code = ended.state.code().name(), "The agent's answer is discarded");
                            self.note(&ended);
                        }
                    }
                    Ok(None) => return self.lost("the agent ended the stream"),
                    Err(status) => return self.refused(&status, *delivered),
                },
                message = next_bundles(&mut bundles) => match message {
                    Ok(Some(message)) => match material::read_bundles(message.bundles) {
                        Ok(set) => {
                            separate_bundles = true;
                            self.take_bundles(set);
                        }
                        Err(error) => warn!(%error, "The agent's bundles are discarded"),
                    },
                    // The other stream says what is wrong, and until then it carries bundles too.
                    Ok(None) | Err(_) => {
                        separate_bundles = false;
                        bundles = None;
                    }
                },
            }
        }
    }

    fn take_svids(&self, message: X509svidResponse, separate_bundles: bool) -> Result<(), Ended> {
        let invalid = |detail| Ended { state: IdentityState::Invalid, detail, redacts: false, retry: true };
        let now = UnixTime::now();
        let material = material::read(message, now).map_err(|error| invalid(error.to_string()))?;
        let chosen = material::choose(&material.svids, &self.choice).map_err(|detail| Ended {
            // What we presented until now is not among what we are given: it was taken back.
            redacts: true,
            ..invalid(detail)
        })?;
        let chosen = Arc::clone(chosen);
        let before = self.current.load().identity.svid.clone();
        if announce(before.as_deref(), &chosen, now) {
            self.updates.inc();
        }
        self.current.replace_identity(|old| {
            let keep_bundles = same_bundles(&old.bundles, &material.bundles)
                || (separate_bundles && !old.bundles.is_empty());
            Identity {
                status: current_status(&old.status, now),
                svid: Some(chosen),
                all: material.svids,
                bundles: if keep_bundles { Arc::clone(&old.bundles) } else { Arc::new(material.bundles) },
                bundles_since: if keep_bundles { old.bundles_since } else { now },
            }
        });
        Ok(())
    }

    fn take_bundles(&self, set: BundleSet) {
        if same_bundles(&self.current.load().identity.bundles, &set) {
            return;
        }
        let count = set.len();
        self.current.replace_identity(|old| Identity {
            status: old.status.clone(),
            svid: old.svid.clone(),
            all: old.all.clone(),
            bundles: Arc::new(set),
            bundles_since: UnixTime::now(),
        });
        info!(trust_domains = count, "Obtained trust bundles");
    }

    /// Writes down how a session ended, once for each new reason.
    fn note(&self, ended: &Ended) {
        let before = self.current.load();
        let have = before.identity.svid.is_some();
        let news =
            before.identity.status.state != ended.state || before.identity.status.detail != ended.detail;
        let takes_back = ended.redacts && have;
        if !news && !takes_back {
            return;
        }
        match (have, ended.redacts) {
            (true, false) => warn!(
                error = ended.detail,
                code = ended.state.code().name(),
                "The Workload API is away; the SVID that we have goes on to serve until it expires"
            ),
            (true, true) => error!(
                error = ended.detail,
                code = ended.state.code().name(),
                "The agent has taken our identity back; there will be no new connections"
            ),
            (false, _) => warn!(error = ended.detail, code = ended.state.code().name(), "No identity yet"),
        }
        let status = Status { state: ended.state, detail: ended.detail.clone(), since: UnixTime::now() };
        self.current.replace_identity(|old| {
            if ended.redacts {
                let bundles_since = status.since;
                Identity { status, svid: None, all: Vec::new(), bundles: Arc::default(), bundles_since }
            } else {
                Identity {
                    status,
                    svid: old.svid.clone(),
                    all: old.all.clone(),
                    bundles: Arc::clone(&old.bundles),
                    bundles_since: old.bundles_since,
                }
            }
        });
    }

    fn cannot_connect(&self, error: &ClientError) -> Ended {
        let state = match error {
            ClientError::Connect(ConnectError::Missing { .. }) => IdentityState::SocketMissing,
            ClientError::Connect(ConnectError::Refused { .. }) => IdentityState::SocketRefused,
            ClientError::Connect(ConnectError::Denied { .. }) => IdentityState::SocketDenied,
            _ => IdentityState::Unavailable,
        };
        Ended { state, detail: error.to_string(), redacts: false, retry: true }
    }

    fn refused(&self, status: &GrpcStatus, delivered: bool) -> Ended {
        let pid = std::process::id();
        match status.code() {
            Code::PermissionDenied if status.message().starts_with(NOT_ATTESTED) => Ended {
                state: IdentityState::NotAttested,
                detail: format!("the agent cannot tell which process asks it: {}", status.message()),
                redacts: true,
                retry: true,
            },
            Code::PermissionDenied => Ended {
                state: IdentityState::NotIssued,
                detail: format!(
                    "the agent has no registration entry for this process ({}); `svidecar-agent why --pid {pid}` (from a \
                     container: with the PID in the agent's log) shows its selectors and the closest entries",
                    status.message()
                ),
                redacts: true,
                retry: true,
            },
            Code::InvalidArgument => Ended {
                state: IdentityState::Invalid,
                detail: format!("the agent refuses our request: {}", status.message()),
                redacts: false,
                retry: false,
            },
            Code::Unimplemented => Ended {
                state: IdentityState::Invalid,
                detail: format!("{} does not serve the X.509 Workload API", self.endpoint),
                redacts: false,
                retry: true,
            },
            _ if delivered => self.lost(status.message()),
            code => Ended {
                state: IdentityState::Unavailable,
                detail: format!("the agent cannot answer now ({code:?}: {})", status.message()),
                redacts: false,
                retry: true,
            },
        }
    }

    fn lost(&self, why: &str) -> Ended {
        Ended {
            state: IdentityState::StreamLost,
            detail: format!("the stream of the Workload API at {} ended: {why}", self.endpoint),
            redacts: false,
            retry: true,
        }
    }

    /// Never returns; speaks up when an SVID comes near its end and no newer one has come.
    async fn watch_expiry(&self) {
        let mut changes = self.current.subscribe();
        loop {
            let identity = Arc::clone(&self.current.load().identity);
            let alarm = identity.svid.as_deref().and_then(|svid| next_alarm(svid, UnixTime::now()));
            let sleep = async {
                match &alarm {
                    Some((wait, _)) => tokio::time::sleep(*wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = sleep => {
                    let (Some((_, level)), Some(svid)) = (alarm, &identity.svid) else { continue };
                    speak_up(svid, level, &identity.status);
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Level {
    Warn,
    Alarm,
    Expired,
}

/// When to speak up next about this SVID, and how loud.
fn next_alarm(svid: &Svid, now: UnixTime) -> Option<(Duration, Level)> {
    // From when we got it: certificates begin a little in the past, which matters when they are short.
    let life = svid.leaf.not_after.as_secs().saturating_sub(svid.obtained.as_secs());
    let left = svid.seconds_left(now);
    let until = |share: f64| {
        let at = Duration::from_secs(life).mul_f64(share).as_secs();
        left.checked_sub(at).filter(|wait| *wait > 0).map(Duration::from_secs)
    };
    if let Some(wait) = until(WARN_AT) {
        return Some((wait, Level::Warn));
    }
    if let Some(wait) = until(ALARM_AT) {
        return Some((wait, Level::Alarm));
    }
    // The last second of validity counts (RFC 5280 §4.1.2.5).
    svid.is_valid(now).then(|| (Duration::from_secs(left + 1), Level::Expired))
}

fn speak_up(svid: &Svid, level: Level, status: &Status) {
    let left = time::human(Duration::from_secs(svid.seconds_left(UnixTime::now())));
    let state = status.state.code().name();
    match level {
        Level::Warn => {
            warn!(spiffe_id = %svid.id, left, identity_state = state, error = status.detail, "The SVID has not been renewed in time");
        }
        Level::Alarm => {
            error!(spiffe_id = %svid.id, left, identity_state = state, error = status.detail, "The SVID expires soon and has not been renewed");
        }
        Level::Expired => {
            error!(spiffe_id = %svid.id, identity_state = state, error = status.detail, "The SVID has expired; there will be no new connections until the agent gives a new one");
        }
    }
}

/// Says what is new; whether anything is.
fn announce(before: Option<&Svid>, chosen: &Svid, now: UnixTime) -> bool {
    let left = time::human(Duration::from_secs(chosen.seconds_left(now)));
    match before {
        None => info!(valid_for = left, "Obtained SVID: {}", chosen.id),
        Some(before) if before.id != chosen.id => {
            warn!(valid_for = left, before = %before.id, "Obtained SVID: {} in place of another identity", chosen.id);
        }
        Some(before) if before.leaf.serial != chosen.leaf.serial => {
            info!(valid_for = left, "Rotated SVID: {}; live connections go on", chosen.id);
        }
        Some(_) => return false,
    }
    true
}

fn current_status(old: &Status, now: UnixTime) -> Status {
    if old.state == IdentityState::Current {
        return old.clone();
    }
    Status { state: IdentityState::Current, detail: "the Workload API stream is open".to_owned(), since: now }
}

/// Bundles that say the same stay the same value, and then no connection is verified again.
fn same_bundles(old: &BundleSet, new: &BundleSet) -> bool {
    old.iter().eq(new.iter())
}

async fn open_bundles(mut client: Client) -> Option<Streaming<X509BundlesResponse>> {
    let opened = client.fetch_x509_bundles(client::request(X509BundlesRequest {})).await;
    opened.ok().map(tonic::Response::into_inner)
}

/// Pends forever when there is no such stream.
async fn next_bundles(
    stream: &mut Option<Streaming<X509BundlesResponse>>,
) -> Result<Option<X509BundlesResponse>, GrpcStatus> {
    match stream {
        Some(stream) => stream.message().await,
        None => std::future::pending().await,
    }
}
