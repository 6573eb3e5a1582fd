//! What a pair of sidecars really does, seen from outside before the race: the TLS version, cipher suite and key
//! exchange that the two agree on (their handshake is relayed and its ServerHello read), and for ours what the app is
//! told of the caller. Only reads what passes.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use svidecar_stack::{http, ports};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{RULES, Race};
use crate::course::CLIENT_ID;
use crate::subject::{Scene, Subject};
use crate::wire::{ECHO_PATH, Wire};

/// The random of a ServerHello that is a HelloRetryRequest (RFC 8446, section 4.1.3), its first bytes.
const RETRY: &[u8] = &[0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11];

impl Race {
    /// One sentence on a subject's TLS.
    pub(super) async fn negotiated(&self, subject: Subject) -> Result<String> {
        let wire = if subject == Subject::Ghostunnel { Wire::Tcp } else { Wire::Http1 };
        let (mut app, address) = self.course.app(wire).await?;
        let relay = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let between = ports::free()?;
        let scene = Scene {
            course: &self.course,
            wire,
            between,
            peer: relay.local_addr()?,
            app: address,
            rules: RULES,
            dir: self.course.stack.dir().join("race").join(format!("negotiated-{}", subject.name())),
        };
        let (found, mut hello) = mpsc::channel(1);
        let relaying = tokio::spawn(relay_all(relay, between, found));
        let mut pair = subject.start(&scene)?;
        pair.ready(wire).await?;
        if subject == Subject::Svidecar {
            tells_the_app(pair.entry).await?;
        }
        let sentence = hello.recv().await.context("no handshake was relayed")?;
        pair.stop().await?;
        relaying.abort();
        app.kill().await?;
        Ok(sentence)
    }
}

/// Both identity headers must reach the app: a race without them would not be the one that is told of.
async fn tells_the_app(entry: SocketAddr) -> Result<()> {
    let seen = http::get(entry, ECHO_PATH, &[]).await?.text().to_ascii_lowercase();
    for header in [format!("\r\nx-spiffe-id: {CLIENT_ID}\r\n"), "\r\nx-forwarded-client-cert: by=".to_owned()]
    {
        ensure!(seen.contains(&header), "the app was not told {:?}, but:\n{seen}", header.trim());
    }
    Ok(())
}

/// Passes connections on; tells of the first ServerHello that is one.
async fn relay_all(listener: TcpListener, to: SocketAddr, found: mpsc::Sender<String>) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(to).await else { continue };
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        drop(tokio::spawn(async move { copy(&mut from_client, &mut to_server).await }));
        let found = found.clone();
        drop(tokio::spawn(async move {
            let mut seen = Vec::new();
            let mut buffer = vec![0; 16 << 10];
            let mut told = false;
            while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                let bytes = buffer.get(..read).unwrap_or_default();
                if !told {
                    seen.extend_from_slice(bytes);
                    if let Some(sentence) = server_hello(&seen) {
                        told = true;
                        // One is enough: the channel is full, if another connection was sooner.
                        let _ = found.try_send(sentence);
                    }
                }
                to_client.write_all(bytes).await?;
            }
            std::io::Result::Ok(())
        }));
    }
}

/// Version, suite and group of the first ServerHello in a stream of TLS records.
fn server_hello(mut stream: &[u8]) -> Option<String> {
    loop {
        let (kind, rest) = stream.split_at_checked(5)?;
        let length = usize::from(u16::from_be_bytes([*kind.get(3)?, *kind.get(4)?]));
        let (record, rest) = rest.split_at_checked(length)?;
        stream = rest;
        // A handshake record with a ServerHello: type, length in three bytes, version, random, session ID.
        if kind.first() != Some(&22) || record.first() != Some(&2) || record.get(6..14)? == RETRY {
            continue;
        }
        let (_, after_random) = record.split_at_checked(38)?;
        let (_, rest) = after_random.split_at_checked(1 + usize::from(*after_random.first()?))?;
        let suite = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
        let mut extensions = rest.get(5..)?;
        let mut version = "TLS 1.2 or older";
        let mut group = None;
        while let Some((head, rest)) = extensions.split_at_checked(4) {
            let length = usize::from(u16::from_be_bytes([*head.get(2)?, *head.get(3)?]));
            let (value, rest) = rest.split_at_checked(length)?;
            match (head, value) {
                ([0, 43, ..], [3, 4]) => version = "TLS 1.3",
                ([0, 51, ..], [high, low, ..]) => group = Some(u16::from_be_bytes([*high, *low])),
                _ => {}
            }
            extensions = rest;
        }
        return Some(format!("{version}, {}, {}", suite_name(suite), group_name(group)));
    }
}

fn suite_name(suite: u16) -> String {
    match suite {
        0x1301 => "AES-128-GCM".to_owned(),
        0x1302 => "AES-256-GCM".to_owned(),
        0x1303 => "ChaCha20-Poly1305".to_owned(),
        other => format!("suite {other:#06x}"),
    }
}

fn group_name(group: Option<u16>) -> String {
    match group {
        Some(0x11ec) => "X25519MLKEM768".to_owned(),
        Some(0x001d) => "X25519".to_owned(),
        Some(0x0017) => "P-256".to_owned(),
        Some(other) => format!("group {other:#06x}"),
        None => "no key exchange".to_owned(),
    }
}
