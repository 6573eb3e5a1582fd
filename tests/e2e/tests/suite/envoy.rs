//! Envoy at the other end of our mutual TLS, with SVID files that our agent's command line writes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use svidecar_e2e::{CLIENT_ID, SERVER_ID, Tool, app, need, proxy_of};
use svidecar_stack::http;
use svidecar_stack::{Launch, Process, Stack, StackOptions, binaries, ports};

const ENVOY_ID: &str = "spiffe://demo.org/workload/envoy";

const POLICY: &str = "\
service: server
default: deny
rules:
  - name: envoy-may-call
    from: [spiffe://demo.org/workload/envoy]
    to: [{methods: [GET], paths: [\"/api/**\"]}]
";

/// A stack, and a folder with Envoy's SVID: `svid.0.pem`, `svid.0.key`, `bundle.0.pem`.
async fn stack_with_svid_files() -> Result<(Stack, PathBuf)> {
    let agent = "unix: {discover_workload_path: true}\n".to_owned();
    let stack = Stack::start(StackOptions { agent, ..StackOptions::default() }).await?;
    let dir = stack.dir().join("envoy");
    // The files are fetched by a copy of the agent's command line that is registered as Envoy.
    let fetcher = binaries::place(&stack.binaries.agent(), &dir)?;
    stack.register(ENVOY_ID, &format!("unix:path:{}", fetcher.display()), &[]).await?;
    let socket = stack.agent_socket();
    Launch::new(fetcher)
        .args(["api", "fetch", "x509", "-socketPath", &socket, "-write"])
        .arg(&dir)
        .text()
        .await?;
    Ok((stack, dir))
}

fn start(envoy: &Path, dir: &Path, config: &str) -> Result<Process> {
    let path = dir.join("envoy.yaml");
    std::fs::write(&path, config)?;
    Launch::new(envoy)
        .args(["--log-level", "info", "--use-dynamic-base-id", "--concurrency", "1", "-c"])
        .arg(path)
        .start("envoy")
}

/// Envoy's TLS with its SVID, and whom it accepts at the other end.
fn tls_context(dir: &Path, peer: &str) -> String {
    let dir = dir.display();
    format!(
        r#"{{tls_certificates: [{{certificate_chain: {{filename: {dir}/svid.0.pem}}, private_key: {{filename: {dir}/svid.0.key}}}}],
            validation_context: {{trusted_ca: {{filename: {dir}/bundle.0.pem}},
              match_typed_subject_alt_names: [{{san_type: URI, matcher: {{exact: "{peer}"}}}}]}},
            tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}}}"#
    )
}

/// A plain or TLS listener that leads to one cluster.
fn config(
    listen: std::net::SocketAddr,
    server_tls: &str,
    manager: &str,
    upstream: std::net::SocketAddr,
    client_tls: &str,
) -> String {
    format!(
        r#"
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
  - name: main
    address: {{socket_address: {{address: 127.0.0.1, port_value: {listen_port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          {manager}
          route_config: {{virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: upstream}}}}]}}]}}
          http_filters: [{{name: envoy.filters.http.router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]
      {server_tls}
  clusters:
  - name: upstream
    type: STATIC
    load_assignment: {{cluster_name: upstream, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream_port}}}}}}}}}]}}]}}
    {client_tls}
"#,
        listen_port = listen.port(),
        upstream_port = upstream.port(),
    )
}

#[tokio::test]
async fn envoy_calls_an_app_behind_our_sidecar() -> Result<()> {
    let Some(envoy) = need(Tool::Envoy, "envoy_calls_an_app_behind_our_sidecar")? else { return Ok(()) };
    let (stack, dir) = stack_with_svid_files().await?;
    let (_app, address) = app(&stack).await?;
    let server = proxy_of(&stack, "server", SERVER_ID, &[]).await?.inbound("http", address, POLICY);
    let server = server.start(&stack, "server")?;
    server.ready().await?;

    let listen = ports::free()?;
    let tls = format!(
        r#"transport_socket: {{name: tls, typed_config: {{"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: {}}}}}"#,
        tls_context(&dir, SERVER_ID)
    );
    let peer = start(&envoy, &dir, &config(listen, "", "", server.inbound()?, &tls))?;
    peer.log.wait_for(&["starting main dispatch loop"]).await?;

    let hello = http::get(listen, "/api/hello", &[]).await?;
    assert_eq!(hello.status, 200, "{}\n{}", hello.text(), peer.log.tail(20));
    assert!(hello.text().contains(ENVOY_ID), "{}", hello.text());
    let refused = http::get(listen, "/health", &[]).await?;
    assert_eq!(refused.status, 403, "{}", refused.text());
    Ok(())
}

/// The header that Envoy writes for our client is the one that we write for it.
#[tokio::test]
async fn our_sidecar_calls_an_app_behind_envoy() -> Result<()> {
    let Some(envoy) = need(Tool::Envoy, "our_sidecar_calls_an_app_behind_envoy")? else { return Ok(()) };
    let (stack, dir) = stack_with_svid_files().await?;
    let (_app, address) = app(&stack).await?;
    let listen = ports::free()?;
    let tls = format!(
        r#"transport_socket: {{name: tls, typed_config: {{"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, require_client_certificate: true, common_tls_context: {}}}}}"#,
        tls_context(&dir, CLIENT_ID)
    );
    let manager =
        "forward_client_cert_details: SANITIZE_SET\n          set_current_client_cert_details: {uri: true}";
    let peer = start(&envoy, &dir, &config(listen, &tls, manager, address, ""))?;
    peer.log.wait_for(&["starting main dispatch loop"]).await?;

    let client = proxy_of(&stack, "client", CLIENT_ID, &[]).await?;
    let to_envoy = client.clone().outbound("http", listen, ENVOY_ID).start(&stack, "to-envoy")?;
    to_envoy.ready().await?;
    let echo = http::get(to_envoy.outbound()?, "/api/echo", &[]).await?;
    assert_eq!(echo.status, 200, "{}\n{}", echo.text(), peer.log.tail(20));
    let by_envoy = xfcc(&echo)?;
    to_envoy.process.log.wait_for(&["Server SVID: ", ENVOY_ID]).await?;

    // The same client at a sidecar of ours, with the identity that Envoy had.
    let policy = POLICY.replace("workload/envoy", "workload/client");
    let ours = proxy_of(&stack, "server", SERVER_ID, &[]).await?.inbound("http", address, &policy);
    let ours = ours.start(&stack, "server")?;
    ours.ready().await?;
    let to_ours = client.outbound("http", ours.inbound()?, SERVER_ID).start(&stack, "to-ours")?;
    to_ours.ready().await?;
    let echo = http::get(to_ours.outbound()?, "/api/echo", &[]).await?;
    assert_eq!(echo.status, 200, "{}", echo.text());
    let hash = |value: &str| value.split(';').find(|part| part.starts_with("Hash=")).map(str::to_owned);
    let by_us = xfcc(&echo)?;
    assert_eq!(
        by_us.replace(SERVER_ID, ENVOY_ID).replace(&hash(&by_us).context("no Hash")?, ""),
        by_envoy.replace(&hash(&by_envoy).context("no Hash")?, "")
    );
    Ok(())
}

/// The identity header that the app saw.
fn xfcc(echo: &http::Answer) -> Result<String> {
    let value = echo.json()?["headers"]["x-forwarded-client-cert"][0].as_str().map(str::to_owned);
    value.with_context(|| format!("no XFCC: {}", echo.text()))
}

/// A server that is not whom the listener expects is refused, and the log has both sides' facts.
#[tokio::test]
async fn our_sidecar_refuses_an_envoy_of_another_name() -> Result<()> {
    let Some(envoy) = need(Tool::Envoy, "our_sidecar_refuses_an_envoy_of_another_name")? else {
        return Ok(());
    };
    let (stack, dir) = stack_with_svid_files().await?;
    let listen = ports::free()?;
    let tls = format!(
        r#"transport_socket: {{name: tls, typed_config: {{"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: {}}}}}"#,
        tls_context(&dir, CLIENT_ID)
    );
    let peer = start(&envoy, &dir, &config(listen, &tls, "", listen, ""))?;
    peer.log.wait_for(&["starting main dispatch loop"]).await?;
    let client = proxy_of(&stack, "client", CLIENT_ID, &[]).await?.outbound("http", listen, SERVER_ID);
    let client = client.start(&stack, "client")?;
    client.ready().await?;
    let answer = http::get(client.outbound()?, "/api/hello", &[]).await?;
    assert_eq!(answer.status, 502, "{}", answer.text());
    client.process.log.wait_for(&["id_not_allowed", ENVOY_ID, SERVER_ID]).await?;
    Ok(())
}
