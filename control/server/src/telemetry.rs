//! The server's metrics: every name and label in one place.
//!
//! Labels have few values, all of them ours: methods of the table of access, codes, kinds. Nothing that a caller
//! sends becomes a label.

use metrics::{counter, describe_counter, describe_gauge, gauge};
use svidecar_process::clock::Doubt;

use crate::state::State;

const CALLS: &str = "svidecar_server_calls_total";
const SIGNED: &str = "svidecar_server_svids_signed_total";
const ATTESTED: &str = "svidecar_server_attestations_total";
const WATCHING: &str = "svidecar_server_watching_agents";
const ENTRIES: &str = "svidecar_server_entries";
const AGENTS: &str = "svidecar_server_agents";
const BUNDLES: &str = "svidecar_server_bundles";
const SHED: &str = "svidecar_server_connections_shed_total";
const CLOCK_DOUBTFUL: &str = "svidecar_server_clock_doubtful";
const CLOCK_OFFSET: &str = "svidecar_server_clock_offset_seconds";
const CA_EXPIRES: &str = "svidecar_server_ca_expiry_timestamp_seconds";

/// Says what each metric means. Called once, when a recorder is there.
pub fn describe() {
    describe_counter!(CALLS, "gRPC calls by method, and whether they were let through");
    describe_counter!(SIGNED, "SVIDs signed, by kind: x509, jwt or agent");
    describe_counter!(ATTESTED, "attempts of agents to attest, by outcome: ok, or the code of the refusal");
    describe_gauge!(WATCHING, "open Watch streams");
    describe_gauge!(ENTRIES, "registration entries");
    describe_gauge!(AGENTS, "agents that have attested, banned ones among them");
    describe_gauge!(BUNDLES, "bundles, our own among them");
    describe_counter!(
        SHED,
        "connections that made room for others: of a handshake, of a stranger (without an SVID), of a member that had as many as it may"
    );
    describe_gauge!(
        CLOCK_DOUBTFUL,
        "1 while the server does not believe its clock, and deletes nothing by it"
    );
    describe_gauge!(CLOCK_OFFSET, "how far a clock that is not believed is from what is expected");
    describe_gauge!(CA_EXPIRES, "end of the active CA certificate, seconds since the Unix epoch");
}

/// A call was decided about. `method` is of the table of access.
pub fn called(method: &str, admitted: bool) {
    let outcome = if admitted { "admitted" } else { "denied" };
    counter!(CALLS, "method" => method.to_owned(), "outcome" => outcome).increment(1);
}

/// An SVID was signed.
pub fn signed(kind: &'static str) {
    counter!(SIGNED, "kind" => kind).increment(1);
}

/// An agent attested, or was refused with a code.
pub fn attested(outcome: &'static str) {
    counter!(ATTESTED, "outcome" => outcome).increment(1);
}

/// A connection was ended, or refused, so that others have room. `of` is `handshake`, `stranger` or `member`.
pub fn shed(of: &'static str) {
    counter!(SHED, "of" => of).increment(1);
}

/// Counts a Watch stream while it is open.
pub struct Watching(());

impl Watching {
    /// One more.
    pub fn begin() -> Self {
        gauge!(WATCHING).increment(1.0);
        Self(())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        gauge!(WATCHING).decrement(1.0);
    }
}

/// Sets what is only worth knowing when somebody asks.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
pub fn measure(state: &State) {
    let (entries, agents, bundles) = state.entries.counts();
    gauge!(ENTRIES).set(entries as f64);
    gauge!(AGENTS).set(agents as f64);
    gauge!(BUNDLES).set(bundles as f64);
    let doubt = state.guard.doubt().filter(Doubt::concerns_somebody);
    gauge!(CLOCK_DOUBTFUL).set(f64::from(u8::from(doubt.is_some())));
    gauge!(CLOCK_OFFSET).set(doubt.map_or(0, |doubt| doubt.offset_seconds()) as f64);
    gauge!(CA_EXPIRES).set(state.ca.current().x509.not_after().as_secs() as f64);
}
