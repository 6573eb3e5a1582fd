//! The other sidecar restarts gracefully, again and again, under full load: no request fails.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::signal::Signal;
use svidecar_e2e::{CLIENT_ID, SERVER_ID, app, explain, proxy_of, stack};
use svidecar_stack::http::Connection;
use svidecar_stack::{Launch, PATIENCE, Process, Stack, StackOptions};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

const POLICY: &str = "\
service: server
rules:
  - {name: client-may-call, from: [spiffe://demo.org/workload/client]}
";

/// How often each of the two is restarted.
const RESTARTS: usize = 3;

/// Clients that ask without a pause.
struct Load {
    clients: JoinSet<Result<()>>,
    stop: Arc<AtomicBool>,
    answered: watch::Sender<usize>,
}

impl Load {
    async fn start(address: SocketAddr) -> Result<Self> {
        let mut load = Self {
            clients: JoinSet::new(),
            stop: Arc::new(AtomicBool::new(false)),
            answered: watch::Sender::new(0),
        };
        let stream = TcpStream::connect(address).await?;
        let (shared, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        for _ in 0..4 {
            let (stop, answered, mut shared) =
                (Arc::clone(&load.stop), load.answered.clone(), shared.clone());
            load.clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    shared.ready().await?;
                    let request = Request::get("http://server/api/hello").body(Empty::<Bytes>::new())?;
                    let answer = tokio::time::timeout(PATIENCE, shared.send_request(request)).await??;
                    let (head, body) = answer.into_parts();
                    let text = body.collect().await?.to_bytes();
                    ensure!(head.status == 200, "HTTP/2: {head:?} {text:?}");
                    answered.send_modify(|count| *count += 1);
                }
                Ok(())
            });
            let (stop, answered) = (Arc::clone(&load.stop), load.answered.clone());
            let mut connection = Connection::open(address).await?;
            load.clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = connection.get("/api/hello", &[]).await?;
                    ensure!(answer.status == 200, "{} {:?} {}", answer.status, answer.headers, answer.text());
                    answered.send_modify(|count| *count += 1);
                }
                Ok(())
            });
        }
        Ok(load)
    }

    /// Waits for many more answers.
    async fn goes_on(&mut self) -> Result<()> {
        let goal = *self.answered.borrow() + 200;
        let mut answered = self.answered.subscribe();
        tokio::select! {
            all = tokio::time::timeout(PATIENCE, answered.wait_for(|count| *count >= goal)) => {
                all.context("no answers under load")??;
                Ok(())
            }
            failed = self.clients.join_next() => failed.context("no clients")??,
        }
    }
}

/// Two sidecars of one service, as a rolling restart meets them.
#[tokio::test]
async fn sidecars_of_a_service_restart_one_after_the_other() -> Result<()> {
    let stack = stack(StackOptions::default()).await?;
    let (_app, address) = app(&stack).await?;
    let spec = proxy_of(&stack, "server", SERVER_ID, &[]).await?.inbound("http", address, POLICY);
    let servers = [spec.start(&stack, "one")?, spec.start(&stack, "two")?];
    let endpoints: Vec<String> =
        servers.iter().map(|server| Ok(format!("\"{}\"", server.inbound()?))).collect::<Result<_>>()?;
    let listen = svidecar_stack::ports::free()?;
    let outbound = format!(
        "outbound:\n  - name: client\n    listen: \"{listen}\"\n    upstream: {{endpoints: [{}], server_id: [{SERVER_ID}]}}\n",
        endpoints.join(", ")
    );
    let mut client =
        proxy_of(&stack, "client", CLIENT_ID, &[]).await?.more(&outbound).start(&stack, "client")?;
    for sidecar in servers.iter().chain([&client]) {
        sidecar.ready().await?;
    }

    let program = svidecar_e2e::workload_path(&stack, "server");
    let (mut processes, configs): (Vec<_>, Vec<_>) =
        servers.into_iter().map(|server| (server.process, server.config)).unzip();
    let restarted = restart(&stack, listen, &program, &mut processes, &configs).await;
    explain(restarted, processes.iter_mut().chain([&mut client.process])).await
}

/// Restarts one after the other under load.
async fn restart(
    stack: &Stack,
    listen: SocketAddr,
    program: &Path,
    processes: &mut [Process],
    configs: &[PathBuf],
) -> Result<()> {
    let mut load = Load::start(listen).await?;
    load.goes_on().await?;
    for round in 0..RESTARTS * 2 {
        let process = &mut processes[round % 2];
        process.signal(Signal::SIGTERM)?;
        let status = process.wait().await?;
        ensure!(status.success(), "{status}\n{}", process.log.tail(20));
        load.goes_on().await?;
        let again = Launch::new(program).arg("run").arg("--config").arg(&configs[round % 2]);
        *process = again.dir(stack.dir()).start("server")?;
        process.log.wait_for(&["The proxy is ready"]).await?;
        load.goes_on().await?;
    }
    load.stop.store(true, Ordering::Relaxed);
    while let Some(client) = load.clients.join_next().await {
        client??;
    }
    Ok(())
}
