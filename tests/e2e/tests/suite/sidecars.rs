//! The main job: an unmodified app behind two sidecars, seen by curl and by the app.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use svidecar_e2e::{CLIENT_ID, Pair, SERVER_ID, Tool, app, need, proxy_of};
use svidecar_stack::process::Launch;
use svidecar_stack::{Stack, StackOptions};

/// curl's body and status code.
async fn curl(curl: &Path, args: &[&str]) -> Result<(String, String)> {
    let text =
        Launch::new(curl).args(["-sS", "--max-time", "20", "-w", "\n%{http_code}"]).args(args).text().await?;
    let (body, code) = text.rsplit_once('\n').context("curl said nothing")?;
    Ok((body.to_owned(), code.to_owned()))
}

#[tokio::test]
async fn curl_reaches_the_app_through_both_sidecars() -> Result<()> {
    let Some(path) = need(Tool::Curl, "curl_reaches_the_app_through_both_sidecars")? else { return Ok(()) };
    let pair = Pair::start(StackOptions::default(), &[]).await?;

    let (body, code) = curl(&path, &[&pair.url("/api/hello")?]).await?;
    assert_eq!(code, "200", "{body}");
    assert!(body.contains(CLIENT_ID), "the app learns the verified caller: {body}");

    // A body, and headers that a caller may not set.
    let url = pair.url("/api/echo?x=1")?;
    let spoofed = "spiffe://demo.org/admin";
    let xfcc = format!("X-Forwarded-Client-Cert: URI={spoofed}");
    let plain = format!("x-spiffe-id: {spoofed}");
    let underscores = format!("x_spiffe_id: {spoofed}");
    let args = ["-d", "hello", "-H", &xfcc, "-H", &plain, "-H", &underscores, "-H", "x-mine: kept", &url];
    let (body, code) = curl(&path, &args).await?;
    assert_eq!(code, "200", "{body}");
    assert!(!body.contains(spoofed), "a spoofed identity got through: {body}");
    let echo: serde_json::Value = serde_json::from_str(&body)?;
    assert_eq!(echo["method"], "POST");
    assert_eq!(echo["path"], "/api/echo?x=1");
    assert_eq!(echo["headers"]["x-mine"], serde_json::json!(["kept"]));
    assert_eq!(echo["headers"]["x-spiffe-id"], serde_json::json!([CLIENT_ID]));
    let xfcc = echo["headers"]["x-forwarded-client-cert"][0].as_str().context("no XFCC")?;
    assert!(xfcc.contains(&format!("URI={CLIENT_ID}")), "{xfcc}");

    // What the policy refuses: the rule's name is in the access log.
    let (body, code) = curl(&path, &[&pair.url("/api/secrets/key")?]).await?;
    assert_eq!(code, "403", "{body}");
    pair.server.process.log.wait_for(&["/api/secrets/key", "no-secrets", "denied_by_rule"]).await?;
    let (body, code) = curl(&path, &[&pair.url("/elsewhere")?]).await?;
    assert_eq!(code, "403", "{body}");
    Ok(())
}

#[tokio::test]
async fn a_policy_edit_takes_effect_and_a_broken_one_changes_nothing() -> Result<()> {
    let pair = Pair::start(StackOptions::default(), &[]).await?;
    assert_eq!(pair.get("/api/hello").await?.status, 200);

    let policy = std::fs::read_to_string(&pair.server.policy)?;
    let position = pair.server.process.log.position();
    std::fs::write(&pair.server.policy, policy.replace("default: deny", "defualt: deny"))?;
    let complaint = pair.server.process.log.wait_from(position, &["defualt"]).await?;
    assert!(complaint.contains("server-policy.yaml:2:1"), "says where: {complaint}");
    assert_eq!(pair.get("/api/hello").await?.status, 200, "what was running goes on");

    let position = pair.server.process.log.position();
    std::fs::write(&pair.server.policy, policy.replace("/api/secrets/**", "/api/**"))?;
    pair.server.process.log.wait_from(position, &["policies are in force"]).await?;
    assert_eq!(pair.get("/api/hello").await?.status, 403, "the new rule denies");
    Ok(())
}

/// The agent and the server may be away for as long as the SVID lasts.
#[tokio::test]
async fn traffic_goes_on_without_agent_and_server() -> Result<()> {
    let mut pair = Pair::start(StackOptions::default(), &[]).await?;
    assert_eq!(pair.get("/api/hello").await?.status, 200);
    pair.stack.agent.kill().await?;
    pair.stack.server.kill().await?;
    for _ in 0..20 {
        assert_eq!(pair.get("/api/hello").await?.status, 200);
    }
    Ok(())
}

#[tokio::test]
async fn a_sidecar_without_an_entry_is_not_ready_and_says_why() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    let (_app, address) = app(&stack).await?;
    let spec = svidecar_stack::sidecar::Spec::new().outbound("http", address, SERVER_ID);
    let sidecar = spec.start(&stack, "orphan")?;
    sidecar.process.log.wait_for(&["no identity issued"]).await?;
    let ready = sidecar.admin("/ready").await?;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("identity"), "names the missing part: {}", ready.text());
    Ok(())
}

#[tokio::test]
async fn the_wrapper_starts_an_app_when_ready_and_returns_its_exit_code() -> Result<()> {
    let agent = "unix: {discover_workload_path: true}\n".to_owned();
    let stack = Stack::start(StackOptions { agent, ..StackOptions::default() }).await?;
    let spec = proxy_of(&stack, "wrapped", CLIENT_ID, &[]).await?.outbound("http", "127.0.0.1:9", SERVER_ID);

    let mut wrapped =
        spec.clone().child(&["sh", "-c", "echo the app runs; exit 7"]).start(&stack, "first")?;
    let status = wrapped.process.wait().await?;
    assert_eq!(status.code(), Some(7), "{}", wrapped.process.log.tail(20));
    assert!(wrapped.process.log.text().contains("the app runs"));

    // A signal reaches the app, and its answer to it is the answer of the wrapper.
    let script = "trap 'echo the app was asked to stop; exit 3' TERM; echo the app is up; while :; do sleep 0.05; done";
    let mut wrapped = spec.child(&["sh", "-c", script]).start(&stack, "second")?;
    wrapped.process.log.wait_for(&["the app is up"]).await?;
    wrapped.process.signal(Signal::SIGTERM)?;
    let status = wrapped.process.wait().await?;
    assert_eq!(status.code(), Some(3), "{}", wrapped.process.log.tail(20));
    assert!(wrapped.process.log.text().contains("the app was asked to stop"));
    Ok(())
}

#[tokio::test]
async fn the_admin_endpoint_tells_an_app_its_own_identity() -> Result<()> {
    let pair = Pair::start(StackOptions::default(), &[]).await?;
    for path in ["/live", "/ready", "/metrics", "/config", "/certs", "/policy"] {
        let answer = pair.server.admin(path).await?;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let status = pair.server.admin("/spiffe/status").await?.json()?;
    assert!(status.to_string().contains(SERVER_ID), "{status}");
    let svid = pair.server.admin("/spiffe/svid/x509").await?;
    ensure!(svid.status == 200 && svid.text().contains(SERVER_ID), "{}", svid.text());
    assert!(!svid.text().contains("PRIVATE KEY"), "the key stays inside");
    let token = pair.server.local("/spiffe/svid/jwt?audience=orders").await?;
    assert_eq!(token.status, 200, "{}", token.text());
    assert_eq!(pair.server.local("/spiffe/svid/jwt?audience=other").await?.status, 403);
    let bundle = pair.server.admin("/spiffe/.well-known/spiffe-bundle").await?.json()?;
    assert!(bundle["keys"].as_array().is_some_and(|keys| !keys.is_empty()), "{bundle}");
    Ok(())
}

#[tokio::test]
async fn sigterm_drains_and_exits_cleanly() -> Result<()> {
    let mut pair = Pair::start(StackOptions::default(), &[]).await?;
    assert_eq!(pair.get("/api/hello").await?.status, 200);
    for sidecar in [&mut pair.client, &mut pair.server] {
        let status = sidecar.process.stop().await?;
        assert!(status.success(), "{status}: {}", sidecar.process.log.tail(20));
    }
    assert!(pair.stack.agent.stop().await?.success());
    assert!(pair.stack.server.stop().await?.success());
    Ok(())
}
