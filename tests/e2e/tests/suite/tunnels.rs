//! Bytes of any protocol with Envoy at the other end: a connection of mutual TLS for each, and many in one as HBONE.

use anyhow::Result;
use svidecar_e2e::{CLIENT_ID, SERVER_ID, Tool, app, need, proxy_of};
use svidecar_stack::{http, ports};

use crate::envoy::{
    ENVOY_ID, HTTP2_CLUSTER, client_tls, config, server_tls, sidecar_of, stack_with_svid_files, start,
};

/// Bytes of any protocol.
const TCP_FILTER: &str = r#"name: envoy.filters.network.tcp_proxy
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: main, cluster: upstream}"#;

const TCP_POLICY: &str = "\
service: server
rules:
  - {name: envoy-may-connect, from: [spiffe://demo.org/workload/envoy]}
";

/// Bytes of any protocol, both ways round: here those of HTTP, which neither Envoy nor we look at.
#[tokio::test]
async fn envoy_carries_tcp_to_us_and_from_us() -> Result<()> {
    let Some(envoy) = need(Tool::Envoy, "envoy_carries_tcp_to_us_and_from_us")? else { return Ok(()) };
    let (stack, dir) = stack_with_svid_files().await?;
    let (_app, address) = app(&stack).await?;
    let server = sidecar_of(&stack, "tcp", address, TCP_POLICY).await?;
    let listen = ports::free()?;
    let tls = client_tls(&dir, SERVER_ID, "");
    let to_us = start(&envoy, &dir, &config(listen, "", TCP_FILTER, server.inbound()?, &tls)).await?;
    let hello = http::get(listen, "/api/hello", &[]).await?;
    assert_eq!(hello.status, 200, "{}\n{}", hello.text(), to_us.log.tail(20));

    let listen = ports::free()?;
    let tls = server_tls(&dir, CLIENT_ID, "");
    let from_us = start(&envoy, &dir, &config(listen, &tls, TCP_FILTER, address, "")).await?;
    let client = proxy_of(&stack, "client", CLIENT_ID, &[]).await?.outbound("tcp", listen, ENVOY_ID);
    let client = client.start(&stack, "client")?;
    client.ready().await?;
    let hello = http::get(client.outbound()?, "/api/hello", &[]).await?;
    assert_eq!(hello.status, 200, "{}\n{}", hello.text(), from_us.log.tail(20));
    Ok(())
}

/// The same, of which all go through one connection of HTTP/2.
const TUNNEL_FILTER: &str = r#"name: envoy.filters.network.tcp_proxy
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: main, cluster: upstream, tunneling_config: {hostname: "app.internal:80"}}"#;

/// The other end of that: CONNECT to one destination, and to no other.
const CONNECT_FILTER: &str = r#"name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          http2_protocol_options: {allow_connect: true}
          upgrade_configs: [{upgrade_type: CONNECT}]
          route_config:
            virtual_hosts:
            - name: app
              domains: ["app.internal:80"]
              routes: [{match: {connect_matcher: {}}, route: {cluster: upstream, upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]}}]
          http_filters: [{name: envoy.filters.http.router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]"#;

/// Envoy tunnels TCP to our inbound port.
#[tokio::test]
async fn envoy_tunnels_to_us() -> Result<()> {
    let Some(envoy) = need(Tool::Envoy, "envoy_tunnels_to_us")? else { return Ok(()) };
    let (stack, dir) = stack_with_svid_files().await?;
    let (_app, address) = app(&stack).await?;
    let server = sidecar_of(&stack, "tcp", address, TCP_POLICY).await?;
    let listen = ports::free()?;
    let cluster = format!("{HTTP2_CLUSTER}\n    {}", client_tls(&dir, SERVER_ID, "h2"));
    let peer = start(&envoy, &dir, &config(listen, "", TUNNEL_FILTER, server.inbound()?, &cluster)).await?;
    for _ in 0..5 {
        let hello = http::get(listen, "/api/hello", &[]).await?;
        assert_eq!(hello.status, 200, "{}\n{}", hello.text(), peer.log.tail(20));
    }
    Ok(())
}

/// We tunnel TCP to an Envoy, and say what it answers where it does not agree.
#[tokio::test]
async fn we_tunnel_to_envoy() -> Result<()> {
    let Some(envoy) = need(Tool::Envoy, "we_tunnel_to_envoy")? else { return Ok(()) };
    let (stack, dir) = stack_with_svid_files().await?;
    let (_app, address) = app(&stack).await?;
    let listen = ports::free()?;
    let tls = server_tls(&dir, CLIENT_ID, "h2");
    let peer = start(&envoy, &dir, &config(listen, &tls, CONNECT_FILTER, address, "")).await?;
    let client = proxy_of(&stack, "client", CLIENT_ID, &[]).await?.outbound("tcp", listen, ENVOY_ID);

    let to_app = client.clone().upstream("tunnel: hbone, destination: \"app.internal:80\"");
    let to_app = to_app.start(&stack, "to-app")?;
    to_app.ready().await?;
    for _ in 0..5 {
        let hello = http::get(to_app.outbound()?, "/api/hello", &[]).await?;
        assert_eq!(hello.status, 200, "{}\n{}", hello.text(), peer.log.tail(20));
    }

    let astray = client.upstream("tunnel: hbone, destination: \"elsewhere.internal:80\"");
    let astray = astray.start(&stack, "astray")?;
    astray.ready().await?;
    assert!(http::get(astray.outbound()?, "/api/hello", &[]).await.is_err());
    astray.process.log.wait_for(&["tunnel_refused", "elsewhere.internal:80", "404"]).await?;
    Ok(())
}
