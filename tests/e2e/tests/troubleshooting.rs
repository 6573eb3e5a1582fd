//! `docs/troubleshooting.md`: each code that a binary can print has its heading, each heading is such a code, and what the
//! page shows as printed is what the binaries print.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use svidecar_code::Code;

const PAGE: &str = include_str!("../../../docs/troubleshooting.md");

/// States that are named by a code and are no failure.
const FINE: [Code; 1] = [Code::Current];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The crates whose errors reach people: all but those for tests and benchmarks.
fn crates() -> Vec<PathBuf> {
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = workspace.split("members = [").nth(1).unwrap().split(']').next().unwrap();
    let members = members.split('"').skip(1).step_by(2);
    let ours = members.filter(|member| !member.starts_with("tests/") && !member.starts_with("benches"));
    ours.map(|member| root().join(member)).collect()
}

/// The program's own sources, without its tests.
fn sources(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned()));
        }
    }
}

fn headings() -> Vec<&'static str> {
    let headings = PAGE.lines().filter_map(|line| line.strip_prefix("### "));
    headings.map(|heading| heading.trim_matches('`')).collect()
}

#[test]
fn every_code_has_its_heading_and_every_heading_is_a_code() {
    let headings = headings();
    let failures = Code::ALL.iter().filter(|code| !FINE.contains(code));
    let missing: Vec<_> = failures.filter(|code| !headings.contains(&code.name())).collect();
    assert!(missing.is_empty(), "codes without a heading in docs/troubleshooting.md: {missing:#?}");
    let stale: Vec<_> = headings.iter().filter(|heading| Code::named(heading).is_none()).collect();
    assert!(stale.is_empty(), "headings in docs/troubleshooting.md that are no codes: {stale:?}");
    let mut once = BTreeSet::new();
    let twice: Vec<_> = headings.iter().filter(|heading| !once.insert(**heading)).collect();
    assert!(twice.is_empty(), "headings twice in docs/troubleshooting.md: {twice:?}");
}

#[test]
fn every_code_is_one_that_a_program_can_print() {
    let mut files = Vec::new();
    for dir in crates() {
        sources(&dir.join("src"), &mut files);
    }
    let is_said = |code: &&Code| {
        let name = format!("Code::{code:?}");
        let ends = |text: &str| !text.starts_with(|next: char| next.is_ascii_alphanumeric());
        files.iter().any(|(_, text)| text.split(&name).skip(1).any(ends))
    };
    // A fault of a codec is named by the codec's own table.
    let faults = files.iter().find(|(path, _)| path.ends_with("http1/fault.rs")).unwrap();
    let is_fault = |code: &&Code| faults.1.contains(&format!(" = {code:?}, "));
    let unsaid: Vec<_> = Code::ALL.iter().filter(|code| !is_said(code) && !is_fault(code)).collect();
    assert!(unsaid.is_empty(), "codes that nothing prints: {unsaid:?}");
}

/// A word beside the table would be one that nobody has looked up a status, a fault and a heading for.
#[test]
fn no_code_is_spelled_beside_the_table() {
    for dir in crates() {
        let mut files = Vec::new();
        sources(&dir.join("src"), &mut files);
        for (path, text) in files {
            for line in text.lines() {
                let spelled = line.contains("code = \"") || line.contains("fn code(&self) -> &'static str");
                assert!(!spelled, "{}: {line}", path.display());
            }
        }
    }
}

/// The section of a code.
fn section(code: &str) -> &'static str {
    let begin = PAGE.find(&format!("### `{code}`\n")).unwrap_or_else(|| panic!("no `{code}`"));
    let section = &PAGE[begin..];
    section[4..].find("\n#").map_or(section, |end| &section[..end + 4])
}

/// Each of the first headings shows the very words, in which its code stands.
#[test]
fn the_first_headings_show_what_is_printed() {
    let first = PAGE.split("\n## ").nth(1).unwrap();
    let codes: Vec<_> = first.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert!(codes.len() >= 10, "{codes:?}");
    for code in codes.iter().map(|code| code.trim_matches('`')) {
        let section = section(code);
        let block = section.split("```").nth(1).unwrap_or_else(|| panic!("`{code}` shows nothing"));
        assert!(block.contains(code), "`{code}` is not in {block}");
    }
}

mod printed {
    //! What the page shows of these codes is provoked with the built binaries and compared.

    use std::os::unix::net::UnixListener;

    use anyhow::{Context as _, Result};
    use svidecar_stack::{Binaries, Launch, Stack, StackOptions};

    use super::section;

    /// The directory of the Workload API's socket on the page.
    const SHOWN: &str = "/run/svidecar";

    /// What the proxy says in a line with these words, without the time, and with the page's directory and process.
    async fn said(launch: &Launch, words: &str, dir: &std::path::Path) -> Result<String> {
        let mut process = launch.start("svidecar")?;
        let line = process.log.wait_for(&[words]).await?;
        let pid = process.pid().context("it has ended")?;
        process.kill().await?;
        Ok(as_shown(&line, dir).replace(&format!("--pid {pid}"), "--pid 4242"))
    }

    fn as_shown(line: &str, dir: &std::path::Path) -> String {
        let text = line.find(" WARN ").or(line.find("Error")).map_or(line, |at| line[at..].trim_start());
        text.replace(dir.to_str().unwrap(), SHOWN)
    }

    fn proxy(dir: &std::path::Path) -> Result<Launch> {
        Ok(Launch::new(Binaries::beside_this_program(None)?.proxy())
            .args(["run", "--admin-listen", "off", "--workload-api"])
            .arg(format!("unix://{}/api.sock", dir.display())))
    }

    fn assert_shown(code: &str, line: &str) {
        assert!(
            section(code).contains(line),
            "docs/troubleshooting.md does not show under `{code}`:\n{line}"
        );
    }

    #[tokio::test]
    async fn a_missing_socket_and_one_that_nobody_serves() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let line = said(&proxy(dir.path())?, "code=\"socket_missing\"", dir.path()).await?;
        assert_shown("socket_missing", &line);
        drop(UnixListener::bind(dir.path().join("api.sock"))?);
        let line = said(&proxy(dir.path())?, "code=\"socket_refused\"", dir.path()).await?;
        assert_shown("socket_refused", &line);
        Ok(())
    }

    #[tokio::test]
    async fn a_port_that_is_taken_and_settings_that_are_wrong() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
        let port = taken.local_addr()?.port().to_string();
        let config = dir.path().join("proxy.yaml");
        let text = "outbound:\n  - name: orders\n    listen: 127.0.0.1:9001\n    protocol: http\n    upstream:\n      \
                    endpoints: [\"orders.internal:8443\"]\n      server_id: [spiffe://demo.org/orders]\n";
        std::fs::write(&config, text.replace("9001", &port))?;
        let launch = proxy(dir.path())?.arg("--config").arg(&config);
        let error = String::from_utf8(launch.output().await?.stderr)?;
        assert_shown("cannot_listen", as_shown(error.trim(), dir.path()).replace(&port, "9001").trim());

        std::fs::write(&config, format!("{text}      tunel: hbone\n"))?;
        let error = String::from_utf8(launch.output().await?.stderr)?;
        let error = error.replace(&format!("{}/", dir.path().display()), "");
        assert_shown("invalid_configuration", error.trim());
        Ok(())
    }

    #[tokio::test]
    async fn a_process_without_an_entry() -> Result<()> {
        let stack = Stack::start(StackOptions::default()).await?;
        let socket = stack.agent_socket();
        let dir = std::path::Path::new(&socket).parent().context("no directory")?;
        let launch = Launch::new(stack.binaries.proxy()).args([
            "run",
            "--admin-listen",
            "off",
            "--workload-api",
            &format!("unix://{socket}"),
        ]);
        let line = said(&launch, "code=\"no_identity_issued\"", dir).await?;
        assert_shown("no_identity_issued", &line);
        Ok(())
    }
}
