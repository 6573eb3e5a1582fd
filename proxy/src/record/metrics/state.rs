//! Metrics of the proxy's own state, which other modules know.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use indexmap::IndexMap;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use svidecar_id::TrustDomain;
use svidecar_process::metrics::{Kind, Metrics, Page};

use super::labels::ListenerLabels;
use crate::record::Direction;

const CROWDED_OUT: &str = "svidecar_connections_crowded_out_total";
const RELOADS: &str = "svidecar_config_reloads_total";

/// Gauges and counters that the parts of the proxy keep current.
pub struct State {
    recorded: Metrics,
    open: Mutex<IndexMap<ListenerLabels, OpenConnections>>,
    bundles: Mutex<Vec<(TrustDomain, usize)>>,
    upstreams: Mutex<Vec<(ListenerLabels, usize)>>,
    svid_not_after: Gauge,
    /// SVIDs that were taken into use.
    pub svid_updates: Counter,
    /// 1 while the Workload API's stream is open, else 0.
    pub workload_api_connected: Gauge,
    /// 1 while all conditions of readiness hold, else 0.
    pub ready: Gauge,
    /// 1 when the files on disk are in use, 0 when the newest were refused.
    pub config_current: Gauge,
}

impl State {
    pub(super) fn new(recorded: &Metrics) -> Self {
        recorded.take(|| {
            describe_gauge!("svidecar_build_info", "The version of the proxy.");
            gauge!("svidecar_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
            describe_counter!(RELOADS, "Changes of configuration files, by what became of them.");
            Self {
                recorded: recorded.clone(),
                open: Mutex::default(),
                bundles: Mutex::default(),
                upstreams: Mutex::default(),
                svid_not_after: described(
                    "svidecar_svid_not_after_seconds",
                    "End of our SVID in seconds since 1970, 0 without one.",
                ),
                svid_updates: {
                    describe_counter!("svidecar_svid_updates_total", "SVIDs that were taken into use.");
                    counter!("svidecar_svid_updates_total")
                },
                workload_api_connected: described(
                    "svidecar_workload_api_connected",
                    "Whether the stream of the Workload API is open.",
                ),
                ready: described("svidecar_ready", "Whether the proxy is ready."),
                config_current: described("svidecar_config_current", "Whether the files on disk are in use."),
            }
        })
    }

    /// The number of open connections of a listener. Keep the handle; looking it up takes a lock.
    #[must_use]
    pub fn open_connections(&self, direction: Direction, listener: &str) -> OpenConnections {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.entry(ListenerLabels::new(direction, listener)).or_default().clone()
    }

    /// Says when our SVID ends, in seconds since 1970; 0 while there is none.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    pub fn set_svid_not_after(&self, seconds: u64) {
        self.svid_not_after.set(seconds as f64);
    }

    /// Replaces what is known of the bundles: each trust domain and the number of its X.509 authorities.
    pub fn set_bundles(&self, bundles: impl IntoIterator<Item = (TrustDomain, usize)>) {
        *self.bundles.lock().unwrap_or_else(PoisonError::into_inner) = bundles.into_iter().collect();
    }

    /// Replaces what is known of the upstreams: each listener, and the connections that are open to where it leads.
    pub fn set_upstreams<'n>(&self, upstreams: impl IntoIterator<Item = (Direction, &'n str, usize)>) {
        let labelled =
            upstreams.into_iter().map(|(direction, name, open)| (ListenerLabels::new(direction, name), open));
        *self.upstreams.lock().unwrap_or_else(PoisonError::into_inner) = labelled.collect();
    }

    /// Counts a change of configuration files that was taken into use, or refused.
    pub fn count_reload(&self, accepted: bool) {
        let outcome = if accepted { "accepted" } else { "refused" };
        self.recorded.take(|| counter!(RELOADS, "outcome" => outcome).increment(1));
        self.config_current.set(u8::from(accepted));
    }

    /// Writes what the facade has no form for: a number that each connection changes, and labels that go away.
    pub(super) fn write(&self, page: &mut Page) {
        page.family("svidecar_open_connections", Kind::Gauge, "Connections that are open now.");
        for (labels, open) in &*self.open.lock().unwrap_or_else(PoisonError::into_inner) {
            page.sample("svidecar_open_connections", &labels.pairs(), open.get());
        }
        let help = "Connections that lost their place to others before anything of them was allowed.";
        page.family(CROWDED_OUT, Kind::Counter, help);
        for (labels, open) in &*self.open.lock().unwrap_or_else(PoisonError::into_inner) {
            page.sample(CROWDED_OUT, &labels.pairs(), open.0.crowded_out.load(Ordering::Relaxed));
        }
        let help = "Connections that are open to the app, or to the endpoints of an upstream.";
        page.family("svidecar_upstream_connections", Kind::Gauge, help);
        for (labels, open) in &*self.upstreams.lock().unwrap_or_else(PoisonError::into_inner) {
            page.sample("svidecar_upstream_connections", &labels.pairs(), open);
        }
        let help = "X.509 authorities in the bundle of a trust domain.";
        page.family("svidecar_bundle_authorities", Kind::Gauge, help);
        for (trust_domain, authorities) in &*self.bundles.lock().unwrap_or_else(PoisonError::into_inner) {
            let labels = [("trust_domain", trust_domain.as_str())];
            page.sample("svidecar_bundle_authorities", &labels, authorities);
        }
    }
}

fn described(name: &'static str, help: &'static str) -> Gauge {
    describe_gauge!(name, help);
    gauge!(name)
}

/// How many connections of a listener are open, of all workers together, and how many lost their place. A clone counts the
/// same.
#[derive(Clone, Debug, Default)]
pub struct OpenConnections(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicI64,
    crowded_out: AtomicU64,
}

impl OpenConnections {
    /// One more.
    pub fn inc(&self) {
        self.0.open.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn dec(&self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// One lost its place to another.
    pub fn crowded_out(&self) {
        self.0.crowded_out.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> i64 {
        self.0.open.load(Ordering::Relaxed)
    }
}
