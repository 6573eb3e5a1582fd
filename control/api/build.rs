//! Compiles the protocol definitions in pure Rust: no `protoc` is needed.

use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

/// One file descriptor set per surface, so that reflection shows what an endpoint really has.
const SURFACES: [(&str, &[&str]); 3] = [
    ("workload", &["workload.proto"]),
    ("agent_admin", &["svidecar/agent/v1/admin.proto"]),
    (
        "server",
        &[
            "spire/api/server/agent/v1/agent.proto",
            "spire/api/server/bundle/v1/bundle.proto",
            "spire/api/server/entry/v1/entry.proto",
            "spire/api/server/localauthority/v1/localauthority.proto",
            "spire/api/server/svid/v1/svid.proto",
            "svidecar/server/v1/backup.proto",
            "svidecar/server/v1/bootstrap.proto",
            "svidecar/server/v1/clock.proto",
            "svidecar/server/v1/join_token.proto",
            "svidecar/server/v1/watch.proto",
        ],
    ),
];

/// Needed by what is above without being part of a surface.
const OTHERS: [&str; 1] = ["google/rpc/status.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    for (name, files) in SURFACES {
        let set = protox::compile(files, ["proto"])?;
        fs::write(Path::new(&out).join(format!("{name}.bin")), set.encode_to_vec())?;
    }
    let all = SURFACES.iter().flat_map(|(_, files)| files.iter()).chain(&OTHERS);
    let set = protox::compile(all, ["proto"])?;
    tonic_prost_build::configure().compile_fds(set)?;
    Ok(())
}
