//! The trust domain's authority: CA, registration entries, agents, bundles.
//!
//! The library holds every part; the binary only starts its command line. So that each can be tested alone.

mod bundles;
pub mod ca;
pub mod cli;
pub mod clock;
pub mod entries;
pub mod error;
mod health;
mod ids;
pub mod rpc;
pub mod run;
pub mod store;
mod telemetry;
pub mod watch;

#[cfg(test)]
mod tests {
    /// Each code of the server, its store and its CA is a heading of the troubleshooting page.
    #[test]
    fn every_code_is_explained() {
        let page = include_str!("../../../docs/troubleshooting.md");
        for source in [include_str!("error.rs"), include_str!("store/error.rs"), include_str!("ca/error.rs")]
        {
            let codes =
                source.lines().filter_map(|line| line.trim().split_once(" => \"")?.1.strip_suffix("\","));
            let codes: Vec<_> = codes.filter(|code| !code.starts_with(' ') && !code.is_empty()).collect();
            assert!(codes.len() > 5, "{codes:?}");
            for code in codes {
                assert!(page.contains(&format!("### `{code}`\n")), "`{code}` has no heading");
            }
        }
    }
}
