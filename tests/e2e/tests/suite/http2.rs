//! HTTP/2 as others speak it: nghttp2, curl.

use anyhow::{Result, ensure};
use svidecar_e2e::{Pair, Tool, need};
use svidecar_stack::Launch;

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
