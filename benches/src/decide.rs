//! What a decision costs, and whether it costs more when there are more rules.

use std::{fmt::Write as _, hint::black_box, path::Path, time::Duration};

use anyhow::{Result, ensure};
use svidecar_id::SpiffeId;
use svidecar_policy::{Policy, Protocol, Request};
use svidecar_process::clock;

use crate::results::{Column, Row};

/// Rules of the measured policies.
const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
/// Decisions that are timed together.
const ROUNDS: u32 = 200_000;

/// Measures policies that differ only in their number of rules.
pub fn measure() -> Result<(Vec<Column>, Vec<Row>)> {
    let rows = SIZES.map(|size| {
        let (load, decide) = measure_one(size)?;
        let mut row = Row::new(format!("{size} rules"), 2);
        row.add(&[decide.as_nanos() as f64, load.as_secs_f64() * 1e3]);
        Ok(row)
    });
    let columns = vec![Column::new("decide, ns", 0), Column::new("load, ms", 1)];
    Ok((columns, rows.into_iter().collect::<Result<_>>()?))
}

fn measure_one(size: usize) -> Result<(Duration, Duration)> {
    let text = policy_of(size)?;
    let start = clock::monotonic();
    let policy = Policy::parse(&text, Path::new("policy.yaml"), Protocol::Http)?;
    let load = clock::monotonic() - start;
    let peer = SpiffeId::parse("spiffe://demo.org/workload/7")?;
    let request =
        Request { peer: Some(&peer), method: Some("GET"), path: Some("/orders/17"), ..Request::default() };
    ensure!(policy.decide(&request).is_allowed(), "the measured request is not allowed");
    let start = clock::monotonic();
    for _ in 0..ROUNDS {
        black_box(policy.decide(black_box(&request)));
    }
    Ok((load, (clock::monotonic() - start) / ROUNDS))
}

/// One rule per workload with an ID, a pattern and paths, and one deny rule about all of them.
fn policy_of(size: usize) -> Result<String> {
    let mut text = "service: orders\nrules:\n".to_owned();
    for at in 0..size {
        writeln!(
            text,
            "  - {{name: r{at}, from: ['spiffe://demo.org/workload/{at}', 'spiffe://demo.org/ns/{at}/*/web'], \
             to: {{methods: [GET, POST], paths: ['/orders/{{id}}', '/static/**']}}}}"
        )?;
    }
    writeln!(
        text,
        "  - {{name: no-admin, action: deny, from: ['spiffe://demo.org/**'], to: {{paths: ['/admin/**']}}}}"
    )?;
    Ok(text)
}
