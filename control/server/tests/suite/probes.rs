//! What probes see: HTTP on its own listener, and `grpc.health.v1` on the administrators' socket.

use svidecar_config::server::ServerSettings;
use svidecar_id::TrustDomain;
use svidecar_process::{Clock, Metrics};
use svidecar_server::{
    error::ServerError,
    run::{self, Server},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::TestServer;

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn http_tells_readiness_and_metrics() {
    let metrics = Metrics::new();
    assert!(metrics.take_all());
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ServerSettings::new(TrustDomain::parse("demo.org").unwrap(), dir.path().join("data"));
    settings.bind_port = 0;
    settings.socket_path = dir.path().join("api.sock");
    settings.health.listen = "127.0.0.1:0".parse().unwrap();
    let shutdown = CancellationToken::new();
    let server = Server::start(settings, Clock::system(), Some(metrics), shutdown.clone()).await.unwrap();
    let address = server.health_address.unwrap();
    assert!(get(address, "/live").await.starts_with("HTTP/1.1 200 "));
    let ready = get(address, "/ready").await;
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.contains("\"ca\":{\"ok\":true"), "{ready}");
    let metrics = get(address, "/metrics").await;
    assert!(
        metrics.contains("svidecar_server_bundles 1") && metrics.contains("svidecar_server_ca_expiry"),
        "{metrics}"
    );
    assert!(get(address, "/other").await.starts_with("HTTP/1.1 404 "));
    shutdown.cancel();
    server.wait().await.unwrap();
    assert!(!dir.path().join("api.sock").exists());
}

#[tokio::test]
async fn grpc_health_serves_administrators() {
    let mut server = TestServer::start().await;
    let mut client = HealthClient::new(server.local().await);
    let status = client.check(HealthCheckRequest::default()).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::Serving);
    server.stop().await;
    assert!(client.check(HealthCheckRequest::default()).await.is_err());
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_together_and_nothing_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut settings = ServerSettings::new(TrustDomain::parse("demo.org").unwrap(), &data);
    settings.default_x509_svid_ttl = "100h".parse().unwrap();
    settings.socket_path = "api.sock".into();
    settings.health.listen = "unix:/x".parse().unwrap();
    let problems = run::validate(&settings).unwrap_err().to_string();
    for part in ["default_x509_svid_ttl", "socket_path", "health.listen"] {
        assert!(problems.contains(part), "{problems}");
    }
    let refused = Server::start(settings, Clock::system(), None, CancellationToken::new()).await;
    assert!(matches!(refused, Err(ServerError::Settings(_))));
    assert!(!data.exists());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let server = TestServer::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = server.settings.clone();
    settings.data_dir = dir.path().join("data");
    settings.bind_port = server.address.port();
    let refused = Server::start(settings, Clock::system(), None, CancellationToken::new()).await;
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("another process does; stop it, or set `bind_port`"), "{message}");
}
