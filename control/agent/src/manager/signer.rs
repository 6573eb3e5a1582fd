//! Has workloads' SVIDs signed when they are due: new ones at once, others at half life.
//!
//! Owns the batches and their retries. It acts on events and on due times, never on a tick, so that an
//! entry is signed the moment it is known.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use svidecar_api::spire::api::{
    server::svid::v1::{NewX509svidParams, batch_new_x509svid_response},
    types,
};
use svidecar_authority::{
    csr,
    key::{KeyType, PrivateKey},
};
use svidecar_code::Code;
use svidecar_process::{Backoff, clock::timer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Manager, sleep_until};
use crate::{cache::OTHER_CLOCK, entry::Entry, error::AgentError, svid::HeldSvid};

/// SVIDs per request; SPIRE's server takes up to 500.
const BATCH: usize = 100;

/// Requests at the same time: a slow one must not hold up a new entry.
const IN_FLIGHT: usize = 4;

/// Waits between tries while the server is away or refuses.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// Signs until shutdown.
pub async fn run(manager: Arc<Manager>, shutdown: CancellationToken) {
    let mut requests = FuturesUnordered::new();
    let mut retry = Retry { backoff: Backoff::new(RETRY_FIRST, RETRY_LONGEST), at: timer() };
    loop {
        while requests.len() < IN_FLIGHT {
            manager.look();
            let batch = manager.cache().take_due(manager.clock.wall(), BATCH);
            if batch.is_empty() {
                break;
            }
            requests.push(sign(Arc::clone(&manager), batch));
        }
        // With all requests out, only their answers can make room.
        let next = if requests.len() < IN_FLIGHT { manager.cache().next_due() } else { None };
        let due = async {
            match next {
                Some(at) => sleep_until(&manager.clock, at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = manager.due.notified() => {}
            () = due => {}
            Some(outcome) = next_of(&mut requests) => settle(&manager, outcome, &mut retry),
        }
    }
}

async fn next_of<F: Future>(requests: &mut FuturesUnordered<F>) -> Option<F::Output> {
    if requests.is_empty() { std::future::pending().await } else { requests.next().await }
}

/// What became of a batch.
struct Outcome {
    signed: Vec<(Arc<Entry>, HeldSvid)>,
    failed: Vec<(Arc<Entry>, String)>,
    /// Set when there was no answer at all.
    error: Option<AgentError>,
}

async fn sign(manager: Arc<Manager>, batch: Vec<Arc<Entry>>) -> Outcome {
    let mut outcome = Outcome { signed: Vec::new(), failed: Vec::new(), error: None };
    let requested = match requests(&batch, manager.options.key_type).await {
        Ok(requested) => requested,
        Err(error) => return outcome.all_failed(batch, error),
    };
    let (keys, params): (Vec<_>, Vec<_>) = requested.into_iter().unzip();
    let results = match manager.link.sign(params).await {
        Ok(results) => results,
        Err(error) => return outcome.all_failed(batch, error),
    };
    let now = manager.clock.wall();
    for ((entry, key), result) in batch.into_iter().zip(keys).zip(results) {
        match accept(result, key, &entry, now) {
            Ok(svid) => outcome.signed.push((entry, svid)),
            Err(reason) => outcome.failed.push((entry, reason)),
        }
    }
    outcome
}

/// A new key and its signing request for each entry. RSA keys take long: not on the async threads.
async fn requests(
    batch: &[Arc<Entry>],
    key_type: KeyType,
) -> Result<Vec<(PrivateKey, NewX509svidParams)>, AgentError> {
    let make = move |entries: Vec<Arc<Entry>>| {
        entries
            .iter()
            .map(|entry| {
                let failed = |error: svidecar_authority::AuthorityError| AgentError::Key(error.to_string());
                let key = PrivateKey::generate(key_type).map_err(failed)?;
                let csr = csr::create(&key, Some(&entry.spiffe_id), &[]).map_err(failed)?;
                Ok((key, NewX509svidParams { entry_id: entry.id.to_string(), csr }))
            })
            .collect::<Result<Vec<_>, AgentError>>()
    };
    let entries = batch.to_vec();
    match key_type {
        KeyType::EcP256 | KeyType::EcP384 => make(entries),
        KeyType::Rsa2048 | KeyType::Rsa4096 => tokio::task::spawn_blocking(move || make(entries))
            .await
            .map_err(|error| AgentError::Key(error.to_string()))?,
    }
}

fn accept(
    result: batch_new_x509svid_response::Result,
    key: PrivateKey,
    entry: &Entry,
    now: SystemTime,
) -> Result<HeldSvid, String> {
    if let Some(types::Status { code, message }) = result.status
        && code != 0
    {
        return Err(format!("the server refused to sign: {message}"));
    }
    let svid = result.svid.ok_or("the server signed nothing")?;
    HeldSvid::accept(svid, key, Some(&entry.spiffe_id), now)
}

impl Outcome {
    fn all_failed(mut self, batch: Vec<Arc<Entry>>, error: AgentError) -> Self {
        let reason = error.to_string();
        self.failed.extend(batch.into_iter().map(|entry| (entry, reason.clone())));
        self.error = Some(error);
        self
    }
}

/// When what could not be signed is tried again.
struct Retry {
    backoff: Backoff,
    at: Instant,
}

impl Retry {
    /// How long whatever failed now waits: with those that wait already. How many there are says nothing of how long it takes.
    fn wait(&mut self) -> Duration {
        let now = timer();
        if self.at <= now {
            self.at = now + self.backoff.next_wait(rand::random());
        }
        self.at.saturating_duration_since(now)
    }

    /// Something was signed. Says whether that is news: nothing was for a while.
    fn worked(&mut self) -> bool {
        let is_news = self.backoff.tries() > 1;
        self.backoff.reset();
        self.at = timer();
        is_news
    }
}

fn settle(manager: &Manager, outcome: Outcome, retry: &mut Retry) {
    let now = manager.clock.wall();
    let valid = outcome.signed.iter().filter(|(_, svid)| svid.is_valid(now)).count();
    let failed = outcome.signed.len() - valid + outcome.failed.len();
    metrics::counter!("svidecar_agent_x509_svids_signed_total").increment(valid as u64);
    metrics::counter!("svidecar_agent_x509_svids_failed_total").increment(failed as u64);
    if valid > 0 && retry.worked() {
        manager.cache().retry_now(now);
    }
    let wait = if failed > 0 { retry.wait() } else { Duration::ZERO };
    for (entry, svid) in &outcome.signed {
        if svid.is_valid(now) {
            let valid_for_s = svid.not_after.duration_since(now).unwrap_or_default().as_secs();
            tracing::info!(spiffe_id = %entry.spiffe_id, entry_id = %entry.id, valid_for_s, "X509-SVID signed");
        } else {
            tracing::warn!(
                spiffe_id = %entry.spiffe_id, entry_id = %entry.id, error = OTHER_CLOCK,
                code = Code::ServerAnswer.name(), retry_in_s = wait.as_secs_f32(), "an X509-SVID is of no use"
            );
        }
    }
    if !outcome.signed.is_empty() {
        manager.cache().signed(outcome.signed, now, now + wait);
        manager.dirty.notify_one();
    }
    for (entry, reason) in outcome.failed {
        tracing::warn!(
            spiffe_id = %entry.spiffe_id, entry_id = %entry.id, error = reason,
            code = outcome.error.as_ref().map_or(Code::SignRefused, AgentError::code).name(),
            retry_in_s = wait.as_secs_f32(), "an X509-SVID could not be signed"
        );
        manager.cache().failed(&[entry], &reason, now, now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_fails_meanwhile_waits_no_longer_and_nobody_waits_on_once_it_works() {
        let mut retry = Retry { backoff: Backoff::new(RETRY_FIRST, RETRY_LONGEST), at: timer() };
        let first = retry.wait();
        assert!((0..20).all(|_| retry.wait() <= first) && first <= RETRY_FIRST);
        assert!(!retry.worked(), "one failure of one is no outage");
        for _ in 0..8 {
            let wait = retry.wait();
            tokio::time::advance(wait).await;
        }
        assert!(retry.wait() > RETRY_LONGEST / 3);
        assert!(retry.worked());
        assert!(retry.wait() <= RETRY_FIRST);
    }
}
