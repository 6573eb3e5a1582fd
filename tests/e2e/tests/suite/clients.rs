//! Workload API clients that others wrote: each fetches and watches X.509 and JWT SVIDs from our agent.

use anyhow::{Context as _, Result};
use spiffe::{JwtSvid, SpiffeId, TrustDomain, WorkloadApiClient};
use svidecar_e2e::{Tool, need};
use svidecar_stack::{Launch, Log, Stack, StackOptions};

const FIRST: &str = "spiffe://demo.org/first";
const SECOND: &str = "spiffe://demo.org/second";

/// A stack with one identity for every process of this user.
async fn stack_with_identity() -> Result<(Stack, String)> {
    let stack = Stack::start(StackOptions::default()).await?;
    let selector = format!("unix:uid:{}", nix::unistd::getuid());
    stack.register(FIRST, &selector, &[]).await?;
    Ok((stack, selector))
}

/// What any client must say: it got and validated all of it, and saw the second identity come.
async fn expect_all(log: &Log, stack: &Stack, selector: &str) -> Result<()> {
    for expected in ["x509 spiffe://demo.org/first chain=1", "jwt spiffe://demo.org/first audience=orders"] {
        log.wait_for(&[expected]).await?;
    }
    log.wait_for(&["x509-bundle demo.org authorities=1"]).await?;
    log.wait_for(&["jwt-validated spiffe://demo.org/first"]).await?;
    log.wait_for(&["jwt-refused-for-another-audience"]).await?;
    log.wait_for(&["update", FIRST]).await?;
    stack.register(SECOND, selector, &[]).await?;
    log.wait_for(&["update", FIRST, SECOND]).await?;
    Ok(())
}

#[tokio::test]
async fn py_spiffe_fetches_and_watches() -> Result<()> {
    let Some(python) = need(Tool::PySpiffe, "py_spiffe_fetches_and_watches")? else { return Ok(()) };
    let (stack, selector) = stack_with_identity().await?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/py_spiffe.py");
    let socket = format!("unix://{}", stack.agent_socket());
    let client = Launch::new(python).args([script, &socket]).start("py-spiffe")?;
    expect_all(&client.log, &stack, &selector).await
}

#[tokio::test]
async fn go_spiffe_fetches_and_watches() -> Result<()> {
    let Some(program) = need(Tool::GoSpiffe, "go_spiffe_fetches_and_watches")? else { return Ok(()) };
    let (stack, selector) = stack_with_identity().await?;
    let client = Launch::new(program).arg(format!("unix://{}", stack.agent_socket())).start("go-spiffe")?;
    client.log.wait_for(&["x509-verified", FIRST]).await?;
    expect_all(&client.log, &stack, &selector).await
}

/// H16, H18 – H22: rust-spiffe parses and validates every field that it is given.
#[tokio::test]
async fn rust_spiffe_fetches_and_validates() -> Result<()> {
    let (stack, _) = stack_with_identity().await?;
    let client = WorkloadApiClient::connect_to(format!("unix:{}", stack.agent_socket())).await?;
    let trust_domain = TrustDomain::new("demo.org")?;

    let context = client.fetch_x509_context().await?;
    let svid = context.default_svid().context("no default SVID")?;
    assert_eq!(svid.spiffe_id().to_string(), FIRST);
    assert!(context.bundle_set().get(&trust_domain).is_some());
    let bundles = client.fetch_x509_bundles().await?;
    assert_eq!(bundles.get(&trust_domain).context("own bundle")?.authorities().len(), 1);

    let own: SpiffeId = FIRST.parse()?;
    let token = client.fetch_jwt_svid(["orders"], Some(&own)).await?;
    let keys = client.fetch_jwt_bundles().await?;
    let svid = JwtSvid::parse_and_validate(token.token(), &keys, &["orders"])?;
    assert_eq!(svid.spiffe_id().to_string(), FIRST);
    client.validate_jwt_token("orders", token.token()).await?;
    assert!(client.validate_jwt_token("somebody-else", token.token()).await.is_err());

    let stranger: SpiffeId = SECOND.parse()?;
    assert!(client.fetch_jwt_svid(["orders"], Some(&stranger)).await.is_err(), "H20: not its own");
    Ok(())
}
