#![allow(clippy::unwrap_used)]

use svidecar_process::testing::captured;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

const READY: &str =
    r#"{"ready": true, "conditions": [{"name": "identity", "ok": true, "state": "ok", "detail": "fine"}]}"#;
const MISSING: &str = r#"{"ready": false, "conditions": [
    {"name": "identity", "ok": false, "state": "socket_missing", "detail": "no socket"},
    {"name": "policy", "ok": true, "state": "current", "detail": "1 policy\nand more"}]}"#;
const CONFIG: &str =
    r#"{"version": "9.9", "last_error": "p.yaml:1:1: bad", "connections": {"inbound": 2, "outbound": 1}}"#;

/// An admin that answers `/ready` with each of `answers` in turn, and goes on with the last.
async fn admin(answers: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut asked = 0;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            let body = if request[..length].starts_with(b"GET /ready ") {
                asked += 1;
                answers[(asked - 1).min(answers.len() - 1)]
            } else {
                CONFIG
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

fn args(address: &str) -> AdminArgs {
    AdminArgs { admin: Some(format!("http://{address}")), settings: SettingsArgs::default() }
}

#[tokio::test]
async fn waiting_ends_when_the_proxy_is_ready() {
    let admin = args(&admin(&[MISSING, MISSING, READY]).await);
    let wait_args = WaitArgs { timeout: "30s".parse().unwrap(), admin };
    let code = wait(&wait_args, &mut captured().0).await.unwrap();
    assert_eq!(code, ExitCode::SUCCESS);
}

#[tokio::test]
async fn waiting_in_vain_says_what_is_missing() {
    let admin = args(&admin(&[MISSING]).await);
    let wait_args = WaitArgs { timeout: "50ms".parse().unwrap(), admin };
    let error = wait(&wait_args, &mut captured().0).await.unwrap_err();
    assert_eq!(error.to_string(), "not ready after 50ms: identity: no socket (socket_missing)");
}

async fn printed(answers: &'static [&'static str], output: Format, quiet: bool) -> (String, ExitCode) {
    let admin = args(&admin(answers).await);
    let (mut console, seen) = captured();
    let status_args = StatusArgs { quiet, admin, output: OutputArgs { output } };
    let code = status(&status_args, &mut console).await.unwrap();
    (seen.out(), code)
}

#[tokio::test]
async fn the_status_is_printed_and_is_the_exit_code() {
    let (text, code) = printed(&[MISSING], Format::Pretty, false).await;
    assert_eq!(
        text,
        "svidecar 9.9: not ready\n\
         \x20 missing  identity  socket_missing no socket\n\
         \x20 ok       policy    current        1 policy\n\
         \x20 connections: 2 inbound, 1 outbound\n\
         \x20 the newest files on disk were refused, the ones before are in force:\n\
         \x20   p.yaml:1:1: bad\n"
    );
    assert_eq!(code, ExitCode::FAILURE);
    let (text, code) = printed(&[READY], Format::Json, false).await;
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["ready"]["ready"], true);
    assert_eq!(code, ExitCode::SUCCESS);
    assert_eq!(printed(&[MISSING], Format::Pretty, true).await, (String::new(), ExitCode::FAILURE));
}

#[tokio::test]
async fn who_does_not_answer_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = args(&address).client().unwrap();
    let error = Readiness::ask(&client).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("no proxy answers at http://{address}")), "{error}");
    let client = args(&admin(&["not json"]).await).client().unwrap();
    let error = Readiness::ask(&client).await.unwrap_err();
    assert!(error.to_string().contains("this is not svidecar's admin"), "{error}");
}

#[test]
fn the_address_comes_from_the_settings() {
    let client = |listen: &str| {
        let cli =
            crate::control::cli::tests::parse(&format!("svidecar status --admin-listen {listen}")).unwrap();
        let crate::control::cli::Command::Status(status) = cli.command else { panic!("not status") };
        status.admin.client().map(|_| ())
    };
    assert!(client("127.0.0.1:15001").is_ok());
    assert!(client("127.0.0.1:0").unwrap_err().to_string().contains("has port 0"));
    assert!(client("off").unwrap_err().to_string().contains("is off"));
}
