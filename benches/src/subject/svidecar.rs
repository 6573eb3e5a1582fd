//! Ours: identities from our own agent, a policy, both identity headers, metrics, and an access log to a file.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use svidecar_stack::{Launch, Process, ports};

use super::pair::{Pair, Scene};
use crate::course::{CLIENT_ID, SERVER_ID};
use crate::wire::Wire;

/// Starts both sidecars.
pub fn start(scene: &Scene<'_>) -> Result<Pair> {
    let entry = ports::free()?;
    let (protocol, forward) = match scene.wire {
        Wire::Http1 => ("http", "\n    forward_protocol: http1"),
        Wire::Http2 => ("http", "\n    forward_protocol: http2"),
        Wire::Tcp => ("tcp", ""),
    };
    std::fs::write(scene.dir.join("policy.yaml"), policy(scene.rules, scene.wire)?)?;
    let server = format!(
        "inbound:\n  - name: app\n    listen: \"{between}\"\n    protocol: {protocol}{forward}\n    \
         forward: \"{app}\"\n    policy: policy.yaml\n",
        between = scene.between,
        app = scene.app
    );
    let client = format!(
        "outbound:\n  - name: app\n    listen: \"{entry}\"\n    protocol: {protocol}\n    \
         upstream: {{endpoints: [\"{peer}\"], server_id: [\"{SERVER_ID}\"]}}\n",
        peer = scene.peer
    );
    let sidecars = vec![
        sidecar(scene, "server", &scene.server.proxy, &server)?,
        sidecar(scene, "client", &scene.client.proxy, &client)?,
    ];
    Ok(Pair { sidecars, between: scene.between, entry })
}

fn sidecar(scene: &Scene<'_>, side: &str, program: &Path, listeners: &str) -> Result<Process> {
    let text = format!(
        "workload_api: unix://{socket}\nworkers: 1\nadmin: {{listen: \"{admin}\"}}\n\
         access_log: {{path: {dir}/{side}-access.log}}\n{listeners}",
        socket = scene.course.stack.agent_socket(),
        admin = ports::free()?,
        dir = scene.dir.display(),
    );
    let config = scene.dir.join(format!("{side}.yaml"));
    std::fs::write(&config, text)?;
    let launch = Launch::new(program).arg("run").arg("--config").arg(config);
    scene.course.stack.guarded(launch).start(&format!("svidecar {side}"))
}

/// So many rules, of which the last is the one that allows the client.
fn policy(rules: usize, wire: Wire) -> Result<String> {
    let to = match wire {
        Wire::Tcp => "",
        _ => ", to: {methods: [GET, POST], paths: ['/orders/{id}', '/demo.Orders/**']}",
    };
    let mut text = "service: orders\ndefault: deny\nrules:\n".to_owned();
    for at in 1..rules {
        writeln!(
            text,
            "  - {{name: r{at}, from: ['spiffe://demo.org/workload/{at}', 'spiffe://demo.org/ns/{at}/*/web']{to}}}"
        )?;
    }
    writeln!(text, "  - {{name: client, from: ['{CLIENT_ID}']{to}}}")?;
    Ok(text)
}
