//! HTTP/2 as others test it, load it and speak it: h2spec, nghttp2, curl.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use svidecar_e2e::{CLIENT_ID, Pair, Tool, need, svid_files};
use svidecar_stack::{Launch, StackOptions};

/// h2spec waits two seconds, again and again, for what does not come.
const H2SPEC_TIME: Duration = Duration::from_secs(240);

/// Runs every case, strict ones included; all must pass, and none may be skipped.
async fn h2spec(program: &Path, address: std::net::SocketAddr, svid: &[std::path::PathBuf]) -> Result<()> {
    let launch = Launch::new(program).arg(address.to_string()).arg("/api/text").args(svid);
    let mut run = launch.start("h2spec")?;
    let summary = run.log.wait_until(0, H2SPEC_TIME, |line| line.contains(" tests, ")).await?;
    let status = run.wait().await?;
    let whole = summary.contains(" 0 skipped, 0 failed");
    ensure!(status.success() && whole, "{summary}\n{}", run.log.text());
    Ok(())
}

/// The inbound port, in mutual TLS.
#[tokio::test]
async fn h2spec_passes_whole_at_the_inbound_port() -> Result<()> {
    let test = "h2spec_passes_whole_at_the_inbound_port";
    let (Some(program), Some(app)) = (need(Tool::H2spec, test)?, need(Tool::GoApp, test)?) else {
        return Ok(());
    };
    let pair = Pair::around(&Launch::new(app), "http").await?;
    let dir = svid_files(&pair.stack, "h2spec", CLIENT_ID).await?;
    let svid = [dir.join("svid.0.pem"), dir.join("svid.0.key")];
    h2spec(&program, pair.server.inbound()?, &svid).await
}

/// The outbound port, in plain text by prior knowledge.
#[tokio::test]
async fn h2spec_passes_whole_at_the_plain_port() -> Result<()> {
    let test = "h2spec_passes_whole_at_the_plain_port";
    let (Some(program), Some(app)) = (need(Tool::H2spec, test)?, need(Tool::GoApp, test)?) else {
        return Ok(());
    };
    let pair = Pair::around(&Launch::new(app), "http").await?;
    h2spec(&program, pair.client.outbound()?, &[]).await
}

/// nghttp2's client, with its own opinion of what it gets.
#[tokio::test]
async fn nghttp_reads_what_an_app_answers() -> Result<()> {
    let test = "nghttp_reads_what_an_app_answers";
    let (Some(nghttp), Some(app)) = (need(Tool::Nghttp, test)?, need(Tool::GoApp, test)?) else {
        return Ok(());
    };
    let pair = Pair::around(&Launch::new(app), "http").await?;
    let body = pair.stack.dir().join("body");
    std::fs::write(&body, vec![b'x'; 3_000_000])?;
    let said = Launch::new(nghttp)
        .args(["--verbose", "--no-dep", "--trailer", "x-mine: behind", "--data"])
        .arg(&body)
        .arg(pair.url("/api/echo")?)
        .text()
        .await?;
    for expected in [":status: 200", "trailer: X-Length", "x-length: 3000000"] {
        ensure!(said.contains(expected), "no `{expected}` in\n{}", said.replace("xxxx", ""));
    }
    Ok(())
}

/// Many connections with many streams each, over HTTP/2 and over HTTP/1.1: each request gets its answer.
#[tokio::test]
async fn h2load_gets_an_answer_to_each_request() -> Result<()> {
    let Some(h2load) = need(Tool::H2load, "h2load_gets_an_answer_to_each_request")? else { return Ok(()) };
    let mut pair = Pair::start(StackOptions::default(), &[]).await?;
    for version in [&["-m", "20"][..], &["--h1"]] {
        let said = Launch::new(&h2load)
            .args(["-n", "4000", "-c", "10"])
            .args(version)
            .arg(pair.url("/api/hello")?)
            .text()
            .await?;
        let expected = "4000 total, 4000 started, 4000 done, 4000 succeeded, 0 failed, 0 errored, 0 timeout";
        let all = said.contains(expected) && said.contains("status codes: 4000 2xx");
        pair.explain(if all { Ok(()) } else { Err(anyhow!(said)) }).await?;
    }
    Ok(())
}

/// curl in every version of HTTP, with bodies that it asks leave for, that are refused early, and without one.
#[tokio::test]
async fn curl_speaks_every_version() -> Result<()> {
    let test = "curl_speaks_every_version";
    let (Some(curl), Some(app)) = (need(Tool::Curl, test)?, need(Tool::GoApp, test)?) else { return Ok(()) };
    let pair = Pair::around(&Launch::new(app), "http").await?;
    let body = pair.stack.dir().join("body");
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|at| (at ^ at >> 8) as u8).collect();
    std::fs::write(&body, &bytes)?;
    let (upload, back) = (format!("@{}", body.display()), pair.stack.dir().join("back"));
    for version in ["--http1.0", "--http1.1", "--http2-prior-knowledge"] {
        let run = |args: &[&str], path: &str| {
            let launch = Launch::new(&curl).args(["-sS", "--max-time", "20", version]).args(args);
            Ok::<_, anyhow::Error>(launch.arg(pair.url(path)?))
        };
        let code = ["-o", &back.display().to_string(), "-w", "%{http_code}", "--data-binary", &upload];
        let said = run(&code, "/api/echo")?.text().await?;
        ensure!(said == "200" && std::fs::read(&back)? == bytes, "{version}: {said}");
        let chunked = [&code[..], &["-H", "Transfer-Encoding: chunked"]].concat();
        if version == "--http1.1" {
            let said = run(&chunked, "/api/echo")?.text().await?;
            ensure!(said == "200" && std::fs::read(&back)? == bytes, "{version}: {said}");
        }
        let said = run(&code, "/api/refuse")?.text().await?;
        ensure!(said == "413", "{version}: {said}");
        let said = run(&["--head"], "/api/hint")?.text().await?;
        ensure!(said.contains(" 200"), "{version}: {said}");
        let said = run(&["-i"], "/api/hint")?.text().await?;
        ensure!(said.ends_with("hello"), "{version}: {said}");
    }
    Ok(())
}
