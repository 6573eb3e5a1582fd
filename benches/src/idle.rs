//! What a sidecar costs that nobody calls, and how soon after its start it is ready.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use svidecar_stack::sidecar::Spec;
use svidecar_stack::{Stack, StackOptions};

use crate::sample::Sample;

/// How often a sidecar is started.
const STARTS: usize = 50;
/// How long an idle sidecar is watched.
const WATCHED: Duration = Duration::from_secs(10);

const POLICY: &str =
    "service: idle\ndefault: deny\nrules:\n  - name: own\n    from: [\"spiffe://demo.org/**\"]\n";

/// Starts sidecars with one inbound and one outbound listener, and looks at the last of them.
pub async fn measure() -> Result<String> {
    let stack = Stack::start(StackOptions::default()).await?;
    let selector = format!("unix:uid:{}", nix::unistd::getuid());
    stack.register("spiffe://demo.org/workload", &selector, &[]).await?;
    let spec = Spec::new().inbound("http", "127.0.0.1:9", POLICY).outbound(
        "http",
        "127.0.0.1:9",
        "spiffe://demo.org/workload",
    );

    let mut starts = Sample::default();
    for _ in 1..STARTS {
        let start = Instant::now();
        let mut sidecar = spec.start(&stack, "idle")?;
        sidecar.ready().await?;
        starts.add(start.elapsed());
        sidecar.process.kill().await?;
    }
    let sidecar = spec.start(&stack, "idle")?;
    sidecar.ready().await?;
    let pid = sidecar.process.pid().context("the sidecar has ended")?;

    // What start-up left behind settles before the watch begins.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = wake_ups(pid)?;
    tokio::time::sleep(WATCHED).await;
    let wake_ups = wake_ups(pid)? - before;
    Ok(format!(
        "### An idle sidecar\n\nOne inbound and one outbound listener, {threads} threads, an identity, no traffic.\n\n\
         | | count | p50 | p99 | max |\n|---|---:|---:|---:|---:|\n{}\n\
         | | |\n|---|---:|\n| memory (PSS) | {:.1} MiB |\n| wake-ups in {} s | {wake_ups} |\n",
        starts.row("started → ready"),
        pss_kib(pid)? as f64 / 1024.0,
        WATCHED.as_secs(),
        threads = fs::read_dir(format!("/proc/{pid}/task"))?.count(),
    ))
}

/// The process's proportional set size: its own memory and its share of what it shares.
fn pss_kib(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss in smaps_rollup")?;
    line.trim().trim_end_matches(" kB").trim().parse().context("Pss is not a number")
}

/// How often the process's threads went to sleep: each time they had been woken.
fn wake_ups(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += line.context("no context switches in status")?.trim().parse::<u64>()?;
    }
    Ok(sum)
}
