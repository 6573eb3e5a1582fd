//! Metrics of the proxy's own state, which other modules know.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};
use svidecar_id::TrustDomain;

use super::labels::ListenerLabels;
use crate::record::Direction;

/// Gauges and counters that the parts of the proxy keep current.
pub struct State {
    open_connections: Family<ListenerLabels, Gauge>,
    bundle_authorities: Family<[(&'static str, String); 1], Gauge>,
    reloads: Family<[(&'static str, &'static str); 1], Counter>,
    /// End of our SVID, in seconds since 1970; 0 while there is none.
    pub svid_not_after: Gauge,
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
    pub(super) fn register(registry: &mut Registry) -> Self {
        let state = Self {
            open_connections: Family::default(),
            bundle_authorities: Family::default(),
            reloads: Family::default(),
            svid_not_after: Gauge::default(),
            svid_updates: Counter::default(),
            workload_api_connected: Gauge::default(),
            ready: Gauge::default(),
            config_current: Gauge::default(),
        };
        registry.register(
            "build",
            "The version of the proxy",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let open = state.open_connections.clone();
        registry.register("open_connections", "Connections that are open now", open);
        let authorities = state.bundle_authorities.clone();
        registry.register(
            "bundle_authorities",
            "X.509 authorities in the bundle of a trust domain",
            authorities,
        );
        let reloads = state.reloads.clone();
        registry.register(
            "config_reloads",
            "Changes of configuration files, by what became of them",
            reloads,
        );
        let end = state.svid_not_after.clone();
        registry.register(
            "svid_not_after_seconds",
            "End of our SVID in seconds since 1970, 0 without one",
            end,
        );
        let updates = state.svid_updates.clone();
        registry.register("svid_updates", "SVIDs that were taken into use", updates);
        let connected = state.workload_api_connected.clone();
        registry.register(
            "workload_api_connected",
            "Whether the stream of the Workload API is open",
            connected,
        );
        registry.register("ready", "Whether the proxy is ready", state.ready.clone());
        let current = state.config_current.clone();
        registry.register("config_current", "Whether the files on disk are in use", current);
        state
    }

    /// The number of open connections of a listener. Keep the handle; looking it up takes a lock.
    #[must_use]
    pub fn open_connections(&self, direction: Direction, listener: &str) -> Gauge {
        self.open_connections.get_or_create_owned(&ListenerLabels::new(direction, listener))
    }

    /// Replaces what is known of the bundles: each trust domain and the number of its X.509 authorities.
    pub fn set_bundles(&self, bundles: impl IntoIterator<Item = (TrustDomain, usize)>) {
        self.bundle_authorities.clear();
        for (trust_domain, authorities) in bundles {
            let label = [("trust_domain", trust_domain.as_str().to_owned())];
            self.bundle_authorities.get_or_create(&label).set(i64::try_from(authorities).unwrap_or(i64::MAX));
        }
    }

    /// Counts a change of configuration files that was taken into use, or refused.
    pub fn count_reload(&self, accepted: bool) {
        let outcome = if accepted { "accepted" } else { "refused" };
        self.reloads.get_or_create(&[("outcome", outcome)]).inc();
        self.config_current.set(i64::from(accepted));
    }
}
