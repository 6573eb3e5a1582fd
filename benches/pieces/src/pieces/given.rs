//! What the pieces are given: identities, a policy, and a way to prepare more of it out of the count.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use svidecar_id::SpiffeId;
use svidecar_policy::{Policy, Protocol};

/// The identity of the caller in all pieces.
pub const CLIENT_ID: &str = "spiffe://demo.org/workload/client";
/// Our own identity.
pub const SERVER_ID: &str = "spiffe://demo.org/workload/server";

/// The SPIFFE ID of this text.
pub fn id(text: &str) -> Result<SpiffeId> {
    SpiffeId::parse(text).with_context(|| text.to_owned())
}

/// Prepares something in a thread of its own, whose instructions do not count: hash maps with a random secret take another
/// way each time.
pub fn aside<T: Send>(prepare: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let prepared = std::thread::scope(|scope| scope.spawn(prepare).join());
    prepared.map_err(|_| anyhow!("the preparation panicked"))?
}

/// A hundred rules, of which the last allows the client.
pub fn policy() -> Result<Policy> {
    aside(parse_policy)
}

fn parse_policy() -> Result<Policy> {
    let to = "to: {methods: [GET, POST], paths: ['/orders/{id}', '/static/**']}";
    let mut text = "service: orders\ndefault: deny\nrules:\n".to_owned();
    for at in 1..100 {
        writeln!(
            text,
            "  - {{name: r{at}, from: ['spiffe://demo.org/workload/{at}', 'spiffe://demo.org/ns/{at}/*/web'], {to}}}"
        )?;
    }
    writeln!(text, "  - {{name: client, from: ['{CLIENT_ID}'], {to}}}")?;
    Ok(Policy::parse(&text, Path::new("policy.yaml"), Protocol::Http)?)
}
