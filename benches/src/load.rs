//! The load: callers in a closed loop, each sends its next request when it has the answer to its last. Counts what
//! comes back, every error, and the CPU time that the watched processes use in exactly the counted time.

mod http1;
mod http2;
mod tally;
mod tcp;

use std::cell::RefCell;
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use svidecar_process::clock;
use tokio::task::LocalSet;

pub use self::tally::Measured;
use self::tally::Tally;
use crate::process;
use crate::wire::Wire;
use crate::workload::Workload;

/// What a caller waits after an error, so that a dead target is not counted a million times.
const PAUSE: Duration = Duration::from_millis(10);

/// What to send, where, and for how long.
#[derive(Args)]
pub struct Options {
    /// Where the client sidecar listens
    pub target: SocketAddr,
    /// What to send
    #[arg(long)]
    pub workload: Workload,
    /// Seconds before counting begins
    #[arg(long, default_value_t = 0.5)]
    pub warm_up: f64,
    /// Seconds that are counted
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Processes whose CPU time is taken
    #[arg(long, value_delimiter = ',')]
    pub watch: Vec<u32>,
}

/// Sends, counts, and prints what it measured as one line of JSON; for `idle`, a line when the connections are
/// open, and then nothing until it is killed.
pub async fn run(options: Options) -> Result<()> {
    let mut out = std::io::stdout();
    if options.workload == Workload::Idle {
        let held = tcp::hold(options.target, options.workload.connections()).await?;
        writeln!(out, "holding {} connections", held.len())?;
        return std::future::pending().await;
    }
    let measured = LocalSet::new().run_until(measure(options)).await?;
    writeln!(out, "{}", serde_json::to_string(&measured)?)?;
    Ok(())
}

/// One exchange on a connection of its own: does the path work?
pub async fn probe(wire: Wire, target: SocketAddr) -> Result<()> {
    match wire {
        Wire::Http1 => http1::probe(target).await,
        Wire::Http2 => http2::probe(target).await,
        Wire::Tcp => tcp::probe(target).await,
    }
}

async fn measure(options: Options) -> Result<Measured> {
    let tally = Rc::new(RefCell::new(Tally::new()?));
    for _ in 0..options.workload.connections() {
        tokio::task::spawn_local(caller(options.workload, options.target, Rc::clone(&tally)));
    }
    tokio::time::sleep(Duration::from_secs_f64(options.warm_up)).await;
    tally.borrow_mut().clear();
    let (start, before) = (clock::monotonic(), process::cpu_time(&options.watch)?);
    tokio::time::sleep(Duration::from_secs_f64(options.seconds)).await;
    let (elapsed, after) = (clock::monotonic() - start, process::cpu_time(&options.watch)?);
    Ok(tally.borrow().measured(elapsed, after.saturating_sub(before)))
}

/// One connection after the other, if one fails.
async fn caller(workload: Workload, target: SocketAddr, tally: Rc<RefCell<Tally>>) {
    loop {
        let ended = match workload {
            Workload::Upload => http1::upload(target, &tally).await,
            Workload::H2 => http2::get(target, &tally).await,
            Workload::Grpc => http2::call(target, &tally).await,
            Workload::Bulk => tcp::bulk(target, &tally).await,
            Workload::Conn => tcp::connect(target, &tally).await,
            _ => http1::get(target, &tally).await,
        };
        if let Err(error) = ended {
            tally.borrow_mut().failed(&error);
            tokio::time::sleep(PAUSE).await;
        }
    }
}
