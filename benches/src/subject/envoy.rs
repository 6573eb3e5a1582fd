//! Envoy: both sides check the other's SPIFFE ID as a URI.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use svidecar_stack::{Process, ports};

use super::pair::{Pair, Scene};
use crate::course::{CLIENT_ID, SERVER_ID, SvidFiles};
use crate::wire::Wire;

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// Starts both sidecars.
pub fn start(scene: &Scene<'_>) -> Result<Pair> {
    let (between, peer, entry) = (scene.between, scene.peer, ports::free()?);
    let accept = transport_socket("Downstream", &scene.server.svid, CLIENT_ID);
    let connect = transport_socket("Upstream", &scene.client.svid, SERVER_ID);
    let sidecars = vec![
        sidecar(scene, "server", &config(scene.wire, between, &accept, scene.app, ""))?,
        sidecar(scene, "client", &config(scene.wire, entry, "", peer, &connect))?,
    ];
    Ok(Pair { sidecars, between, entry })
}

fn transport_socket(end: &str, svid: &SvidFiles, peer: &str) -> String {
    let require = if end == "Downstream" { "require_client_certificate: true, " } else { "" };
    format!(
        r#"transport_socket: {{name: tls, typed_config: {{"@type": {TYPES}.transport_sockets.tls.v3.{end}TlsContext, {require}common_tls_context: {{
        tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}},
        tls_certificates: [{{certificate_chain: {{filename: {cert}}}, private_key: {{filename: {key}}}}}],
        validation_context: {{trusted_ca: {{filename: {bundle}}}, match_typed_subject_alt_names: [{{san_type: URI, matcher: {{exact: "{peer}"}}}}]}}}}}}}}"#,
        cert = svid.cert.display(),
        key = svid.key.display(),
        bundle = svid.bundle.display(),
    )
}

fn config(wire: Wire, listen: SocketAddr, accept: &str, next: SocketAddr, connect: &str) -> String {
    let filter = match wire {
        Wire::Tcp => format!(
            r#"{{name: tcp, typed_config: {{"@type": {TYPES}.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: main, cluster: next}}}}"#
        ),
        _ => format!(
            r#"{{name: http, typed_config: {{"@type": {TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: main,
        route_config: {{virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: next, timeout: 0s}}}}]}}]}},
        http_filters: [{{name: router, typed_config: {{"@type": {TYPES}.filters.http.router.v3.Router}}}}]}}}}"#
        ),
    };
    let protocol = match wire {
        Wire::Http2 => format!(
            r#"typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{"@type": {TYPES}.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{http2_protocol_options: {{}}}}}}}}"#
        ),
        _ => String::new(),
    };
    format!(
        r#"
static_resources:
  listeners:
  - name: main
    address: {{socket_address: {{address: {listen_ip}, port_value: {listen_port}}}}}
    filter_chains:
    - filters: [{filter}]
      {accept}
  clusters:
  - name: next
    type: STATIC
    circuit_breakers: {{thresholds: [{{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}]}}
    load_assignment: {{cluster_name: next, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {next_ip}, port_value: {next_port}}}}}}}}}]}}]}}
    {protocol}
    {connect}
"#,
        listen_ip = listen.ip(),
        listen_port = listen.port(),
        next_ip = next.ip(),
        next_port = next.port(),
    )
}

fn sidecar(scene: &Scene<'_>, side: &str, config: &str) -> Result<Process> {
    let tool = scene.course.tools.envoy.as_ref().context("Envoy is not here")?;
    let path = scene.dir.join(format!("{side}.yaml"));
    std::fs::write(&path, config)?;
    let launch =
        tool.launch().args(["--log-level", "warn", "--disable-hot-restart", "--concurrency", "1", "-c"]);
    scene.course.stack.guarded(launch.arg(path)).start(&format!("envoy {side}"))
}
