//! Programs that others wrote, and what happens where one is missing.

use std::path::PathBuf;

use anyhow::Result;
use svidecar_stack::Binaries;

/// A program that a test runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// curl, of the machine.
    Curl,
    /// openssl, of the machine.
    OpenSsl,
    /// Python with py-spiffe, by `tests/setup`.
    PySpiffe,
    /// Envoy, by `tests/setup`.
    Envoy,
    /// nghttp2's clients, of the machine.
    Nghttp,
    /// nghttp2's load generator, of the machine.
    H2load,
    /// Python with the websockets library, by `tests/setup`.
    WebSockets,
    /// Our client on go-spiffe, built by `tests/setup` where Go is.
    GoSpiffe,
    /// h2spec with all its cases, built by `tests/setup` where Go is.
    H2spec,
    /// Our client and server on grpc-go, built by `tests/setup` where Go is.
    GrpcGo,
    /// An app on Go's net/http, built by `tests/setup` where Go is.
    GoApp,
    /// iproute2 with the right to make network namespaces.
    Namespaces,
}

impl Tool {
    const fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::OpenSsl => "openssl",
            Self::PySpiffe => "py-spiffe",
            Self::Envoy => "envoy",
            Self::Nghttp => "nghttp",
            Self::H2load => "h2load",
            Self::WebSockets => "websockets",
            Self::GoSpiffe => "go-spiffe",
            Self::H2spec => "h2spec",
            Self::GrpcGo => "grpc-go",
            Self::GoApp => "go-app",
            Self::Namespaces => "network namespaces",
        }
    }

    /// Where it is, if it is here.
    fn find(self, binaries: &Binaries) -> Option<PathBuf> {
        let tools = binaries.tools();
        let path = match self {
            Self::Namespaces => return in_path("ip").filter(|_| can_make_namespaces()),
            Self::Curl | Self::OpenSsl | Self::Nghttp | Self::H2load => return in_path(self.name()),
            Self::PySpiffe | Self::WebSockets => tools.join("python/bin/python"),
            // The package's own command is a Python script that runs this.
            Self::Envoy => std::fs::read_dir(tools.join("python/lib"))
                .ok()?
                .filter_map(|entry| Some(entry.ok()?.path().join("site-packages/envoy/_bin/envoy")))
                .find(|path| path.is_file())?,
            Self::GoSpiffe => tools.join("go-spiffe-client"),
            Self::H2spec | Self::GrpcGo | Self::GoApp => tools.join(self.name()),
        };
        path.is_file().then_some(path)
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// By doing what `ip netns add` does, in a mount namespace that ends with it: root in a container has not always the right to.
/// `tests/run` asks in the same words.
fn can_make_namespaces() -> bool {
    let make = ["--mount", "--net", "mount", "--bind", "/proc/self/ns/net", "/dev/null"];
    let made = std::process::Command::new("unshare").args(make).output();
    made.is_ok_and(|made| made.status.success())
}

/// The tool's path; or nothing, and the skip is written down for `tests/run` to count.
///
/// # Errors
/// When the skip cannot be written down: no test is skipped silently.
pub fn need(tool: Tool, test: &str) -> Result<Option<PathBuf>> {
    let binaries = Binaries::beside_this_program(None)?;
    let found = tool.find(&binaries);
    if found.is_none() {
        binaries.skip(test, tool.name())?;
    }
    Ok(found)
}
