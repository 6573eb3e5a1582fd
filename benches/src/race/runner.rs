//! Who runs in a workload, from its start to its result.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use anyhow::Result;

use crate::report;
use crate::results::Row;
use crate::subject::{Pair, Subject};

/// Who runs in one workload, and how.
pub struct Entrant {
    /// In the table.
    pub label: String,
    /// Who.
    pub subject: Subject,
    /// How many rules the policy has, if it is ours.
    pub rules: usize,
}

/// An entrant in the race: its running pair, and what was measured of it so far.
pub struct Runner {
    /// Both sidecars.
    pub pair: Pair,
    /// What was measured.
    pub row: Row,
    /// Exchanges that the load counted.
    pub exchanges: u64,
    /// Where ours writes its access log.
    pub access_log: Option<PathBuf>,
}

impl Runner {
    /// Ends the pair and keeps what was measured of it. What is missing in our access log counts as errors.
    pub async fn finish(self) -> Result<Row> {
        let Self { pair, mut row, exchanges, access_log } = self;
        pair.stop().await?;
        if let Some(path) = access_log {
            let logged = BufReader::new(File::open(&path)?).split(b'\n').count() as u64;
            if logged < exchanges {
                report::say(&format!(
                    "{}: {logged} lines of access log for {exchanges} exchanges",
                    row.label
                ))?;
                row.errors += exchanges - logged;
            }
            std::fs::remove_file(path)?;
        }
        row.forget_missing();
        Ok(row)
    }
}

/// Ends all of them.
pub async fn finish(runners: Vec<Runner>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for runner in runners {
        rows.push(runner.finish().await?);
    }
    Ok(rows)
}
