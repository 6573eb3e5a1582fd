//! What a pair of sidecars really does, seen from outside before the race: the TLS version, cipher suite and key
//! exchange that the two agree on (their handshake is relayed and its ServerHello read), whether each refuses a
//! stranger, and for ours what the app is told of the caller. Only reads what passes.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use svidecar_stack::{http, ports};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::lineup::{RULES, Race};
use crate::course::CLIENT_ID;
use crate::subject::{Scene, Subject};
use crate::wire::{ECHO_PATH, Wire};

/// The random of a ServerHello that is a HelloRetryRequest (RFC 8446, section 4.1.3), its first bytes.
const RETRY: &[u8] = &[0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11];

impl Race {
    /// One sentence on a subject's TLS.
    pub(super) async fn negotiated(&self, subject: Subject) -> Result<String> {
        let wire = wire_of(subject);
        let (mut app, address) = self.course.app(wire).await?;
        let relay = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (found, mut hello) = mpsc::channel(1);
        let scene = Scene { peer: relay.local_addr()?, ..self.scene(subject, "negotiated", address)? };
        let relaying = tokio::spawn(relay_all(relay, scene.between, found));
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

    /// Fails if the subject's server lets a stranger in, or its client talks to one.
    pub(super) async fn refuses_strangers(&self, subject: Subject) -> Result<()> {
        let wire = wire_of(subject);
        let (mut app, address) = self.course.app(wire).await?;
        let stranger = &self.course.stranger;
        for scene in [
            Scene { client: stranger, ..self.scene(subject, "strange-client", address)? },
            Scene { server: stranger, ..self.scene(subject, "strange-server", address)? },
        ] {
            let pair = subject.start(&scene)?;
            pair.refuses(wire).await?;
            pair.stop().await?;
        }
        app.kill().await?;
        Ok(())
    }

    fn scene(&self, subject: Subject, name: &str, app: SocketAddr) -> Result<Scene<'_>> {
        let between = ports::free()?;
        Ok(Scene {
            course: &self.course,
            server: &self.course.server,
            client: &self.course.client,
            wire: wire_of(subject),
            between,
            peer: between,
            app,
            rules: RULES,
            dir: self.course.stack.dir().join("race").join(format!("{name}-{}", subject.name())),
        })
    }
}

fn wire_of(subject: Subject) -> Wire {
    if subject == Subject::Ghostunnel { Wire::Tcp } else { Wire::Http1 }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(random: &[u8], group: u16) -> Vec<u8> {
        let mut extensions = vec![0, 43, 0, 2, 3, 4, 0, 51, 0, 4];
        extensions.extend(group.to_be_bytes());
        extensions.extend([0, 0]);
        let mut hello = vec![2, 0, 0, 0, 3, 3];
        hello.extend(random.iter().copied().chain(std::iter::repeat(7)).take(32));
        hello.extend([0, 0x13, 0x01, 0, 0, extensions.len() as u8]);
        hello.extend(extensions);
        [vec![22, 3, 3, 0, hello.len() as u8], hello].concat()
    }

    #[test]
    fn the_hello_after_a_retry_counts() {
        let stream = [record(RETRY, 0x17), vec![20, 3, 3, 0, 1, 1], record(&[], 0x11ec)].concat();
        assert_eq!(server_hello(&stream).as_deref(), Some("TLS 1.3, AES-128-GCM, X25519MLKEM768"));
    }

    #[test]
    fn a_hello_that_is_not_yet_whole_is_none() {
        let stream = record(&[], 0x1d);
        assert_eq!(server_hello(&stream[..stream.len() - 1]), None);
    }
}
