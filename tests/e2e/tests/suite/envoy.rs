//! Envoy at the other end of our mutual TLS, with SVID files that our agent's command line writes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use svidecar_e2e::{CLIENT_ID, SERVER_ID, Tool, app, need, proxy_of, stack, svid_files};
use svidecar_stack::http;
use svidecar_stack::{Launch, Process, Sidecar, Stack, StackOptions, ports};

pub const ENVOY_ID: &str = "spiffe://demo.org/workload/envoy";

const POLICY: &str = "\
service: server
default: deny
rules:
  - name: envoy-may-call
    from: [spiffe://demo.org/workload/envoy]
    to: [{methods: [GET], paths: [\"/api/**\"]}]
";

/// A stack, and a folder with Envoy's SVID.
pub async fn stack_with_svid_files() -> Result<(Stack, PathBuf)> {
    let stack = stack(StackOptions::default()).await?;
    let dir = svid_files(&stack, "envoy", ENVOY_ID).await?;
    Ok((stack, dir))
}

/// An Envoy that serves.
pub async fn start(envoy: &Path, dir: &Path, config: &str) -> Result<Process> {
    let path = dir.join("envoy.yaml");
    std::fs::write(&path, config)?;
    let process = Launch::new(envoy)
        .args(["--log-level", "info", "--use-dynamic-base-id", "--concurrency", "1", "-c"])
        .arg(path)
        .start("envoy")?;
    process.log.wait_for(&["starting main dispatch loop"]).await?;
    Ok(process)
}

/// Our sidecar before an app, ready.
pub async fn sidecar_of(stack: &Stack, protocol: &str, app: SocketAddr, policy: &str) -> Result<Sidecar> {
    let sidecar = proxy_of(stack, "server", SERVER_ID, &[]).await?.inbound(protocol, app, policy);
    let sidecar = sidecar.start(stack, "server")?;
    sidecar.ready().await?;
    Ok(sidecar)
}

/// Envoy's TLS with its SVID, whom it accepts at the other end, and what is spoken in it.
fn tls_context(dir: &Path, peer: &str, alpn: &str) -> String {
    let dir = dir.display();
    format!(
        r#"{{alpn_protocols: [{alpn}], tls_certificates: [{{certificate_chain: {{filename: {dir}/svid.0.pem}}, private_key: {{filename: {dir}/svid.0.key}}}}],
            validation_context: {{trusted_ca: {{filename: {dir}/bundle.0.pem}},
              match_typed_subject_alt_names: [{{san_type: URI, matcher: {{exact: "{peer}"}}}}]}},
            tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}}}"#
    )
}

/// TLS of a cluster.
pub fn client_tls(dir: &Path, peer: &str, alpn: &str) -> String {
    let context = tls_context(dir, peer, alpn);
    format!(
        r#"transport_socket: {{name: tls, typed_config: {{"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: {context}}}}}"#
    )
}

/// TLS of a listener, which wants a certificate.
pub fn server_tls(dir: &Path, peer: &str, alpn: &str) -> String {
    let context = tls_context(dir, peer, alpn);
    format!(
        r#"transport_socket: {{name: tls, typed_config: {{"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, require_client_certificate: true, common_tls_context: {context}}}}}"#
    )
}

/// HTTP of the version that the connection begins with. Each answer says which one that was.
fn http_filter(manager: &str) -> String {
    format!(
        r#"name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          {manager}
          route_config:
            response_headers_to_add: [{{header: {{key: x-protocol, value: "%PROTOCOL%"}}}}]
            virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: upstream}}}}]}}]
          http_filters: [{{name: envoy.filters.http.router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]"#
    )
}

/// A cluster that speaks HTTP/2 alone.
pub const HTTP2_CLUSTER: &str = r#"typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}}"#;

/// A plain or TLS listener that leads to one cluster.
pub fn config(
    listen: SocketAddr,
    server_tls: &str,
    filter: &str,
    upstream: SocketAddr,
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
      - {filter}
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
    let server = sidecar_of(&stack, "http", address, POLICY).await?;

    let listen = ports::free()?;
    let tls = client_tls(&dir, SERVER_ID, "http/1.1");
    let peer = start(&envoy, &dir, &config(listen, "", &http_filter(""), server.inbound()?, &tls)).await?;

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
    let tls = server_tls(&dir, CLIENT_ID, "http/1.1");
    let manager =
        "forward_client_cert_details: SANITIZE_SET\n          set_current_client_cert_details: {uri: true}";
    let peer = start(&envoy, &dir, &config(listen, &tls, &http_filter(manager), address, "")).await?;

    let client = proxy_of(&stack, "client", CLIENT_ID, &[]).await?;
    let to_envoy = client.clone().outbound("http", listen, ENVOY_ID).start(&stack, "to-envoy")?;
    to_envoy.ready().await?;
    let echo = http::get(to_envoy.outbound()?, "/api/echo", &[]).await?;
    assert_eq!(echo.status, 200, "{}\n{}", echo.text(), peer.log.tail(20));
    let by_envoy = xfcc(&echo)?;
    to_envoy.process.log.wait_for(&["Server SVID: ", ENVOY_ID]).await?;

    // The same client at a sidecar of ours, with the identity that Envoy had.
    let policy = POLICY.replace("workload/envoy", "workload/client");
    let ours = sidecar_of(&stack, "http", address, &policy).await?;
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
    let tls = server_tls(&dir, CLIENT_ID, "http/1.1");
    let _peer = start(&envoy, &dir, &config(listen, &tls, &http_filter(""), listen, "")).await?;
    let client = proxy_of(&stack, "client", CLIENT_ID, &[]).await?.outbound("http", listen, SERVER_ID);
    let client = client.start(&stack, "client")?;
    client.ready().await?;
    let answer = http::get(client.outbound()?, "/api/hello", &[]).await?;
    assert_eq!(answer.status, 502, "{}", answer.text());
    client.process.log.wait_for(&["id_not_allowed", ENVOY_ID, SERVER_ID]).await?;
    Ok(())
}

/// Envoy shares HTTP/2 connections to us among its clients.
#[tokio::test]
async fn envoy_calls_over_http2() -> Result<()> {
    let Some(envoy) = need(Tool::Envoy, "envoy_calls_over_http2")? else { return Ok(()) };
    let (stack, dir) = stack_with_svid_files().await?;
    let (_app, address) = app(&stack).await?;
    let server = sidecar_of(&stack, "http", address, POLICY).await?;
    let listen = ports::free()?;
    let cluster = format!("{HTTP2_CLUSTER}\n    {}", client_tls(&dir, SERVER_ID, "h2"));
    let peer =
        start(&envoy, &dir, &config(listen, "", &http_filter(""), server.inbound()?, &cluster)).await?;
    let mut connection = http::Connection::open(listen).await?;
    for _ in 0..20 {
        let hello = connection.get("/api/hello", &[]).await?;
        assert_eq!(hello.status, 200, "{}\n{}", hello.text(), peer.log.tail(20));
        assert!(hello.text().contains(ENVOY_ID), "{}", hello.text());
    }
    server.process.log.wait_for(&["/api/hello", "\"protocol\":\"HTTP/2"]).await?;
    Ok(())
}

/// A client that speaks HTTP/2 keeps speaking it to an Envoy that does.
#[tokio::test]
async fn our_sidecar_calls_envoy_over_http2() -> Result<()> {
    let test = "our_sidecar_calls_envoy_over_http2";
    let (Some(envoy), Some(curl)) = (need(Tool::Envoy, test)?, need(Tool::Curl, test)?) else {
        return Ok(());
    };
    let (stack, dir) = stack_with_svid_files().await?;
    let (_app, address) = app(&stack).await?;
    let listen = ports::free()?;
    let tls = server_tls(&dir, CLIENT_ID, "h2, http/1.1");
    let _peer = start(&envoy, &dir, &config(listen, &tls, &http_filter(""), address, "")).await?;
    let client = proxy_of(&stack, "client", CLIENT_ID, &[]).await?.outbound("http", listen, ENVOY_ID);
    let client = client.start(&stack, "client")?;
    client.ready().await?;
    let url = format!("http://{}/api/hello", client.outbound()?);
    for (version, expected) in [("--http2-prior-knowledge", "HTTP/2"), ("--http1.1", "HTTP/1.1")] {
        let said = Launch::new(&curl).args(["-sSi", "--max-time", "20", version, &url]).text().await?;
        assert!(said.contains(" 200") && said.contains(&format!("x-protocol: {expected}")), "{said}");
    }
    Ok(())
}
