#![allow(clippy::unwrap_used)]

use svidecar_code::Code;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use std::sync::Arc;

use svidecar_authority::tls::ResumingServer;

use super::*;
use crate::io::tls::tests::{
    SUITES, authority::Authority, name, our_client, pair, rustls_server, soon, source, verifier,
};

const TIMEOUT: Duration = Duration::from_secs(20);

fn offers(authority: &Authority, is_http: bool) -> Offers {
    let server = |alpn: &[Alpn]| {
        let names: Vec<_> = alpn.iter().map(|alpn| alpn.name()).collect();
        ResumingServer::new(source(authority.identity("/orders")), verifier(authority), &names).unwrap()
    };
    match is_http {
        true => Offers::new(server(Offers::HTTP), None),
        false => Offers::new(server(Offers::TUNNELS), Some(server(&[]))),
    }
}

/// What a client that offers `alpn` gets.
async fn agreed(offers: &Offers, authority: &Authority, alpn: &[&[u8]]) -> Result<Option<Alpn>, Code> {
    let (near, far) = pair().await;
    let config = svidecar_authority::tls::client_config(
        authority.identity("/shop"),
        verifier(authority),
        alpn,
        svidecar_authority::tls::Versions::Tls13,
    );
    let connector = TlsConnector::from(Arc::new(config.unwrap()));
    let (accepted, _) = soon("both", async {
        tokio::join!(inbound(Socket::accepted(far), offers, TIMEOUT, || ()), connector.connect(name(), near))
    })
    .await;
    let accepted = accepted.map_err(|failure| failure.code)?;
    assert_eq!((accepted.peer.id().path(), accepted.resumed), ("/shop", false));
    assert_eq!(accepted.sni.as_deref(), Some("orders.internal"));
    Ok(accepted.alpn)
}

#[tokio::test]
async fn peers_get_the_best_protocol_that_they_know() {
    let authority = Authority::new("demo.org");
    let http = offers(&authority, true);
    assert_eq!(
        agreed(&http, &authority, &[b"http/1.1", b"h2", b"svidecar/1"]).await,
        Ok(Some(Alpn::Svidecar))
    );
    assert_eq!(agreed(&http, &authority, &[b"http/1.1", b"h2"]).await, Ok(Some(Alpn::Http2)));
    assert_eq!(agreed(&http, &authority, &[b"http/1.1"]).await, Ok(Some(Alpn::Http1)));
    assert_eq!(agreed(&http, &authority, &[]).await, Ok(None));
    assert_eq!(agreed(&http, &authority, &[b"postgresql"]).await, Err(Code::NoCommonProtocol));
    let bytes = offers(&authority, false);
    assert_eq!(agreed(&bytes, &authority, &[b"svidecar/1"]).await, Ok(Some(Alpn::Svidecar)));
    assert_eq!(agreed(&bytes, &authority, &[b"h2"]).await, Ok(Some(Alpn::Http2)));
    assert_eq!(agreed(&bytes, &authority, &[b"postgresql"]).await, Ok(None));
    assert_eq!(agreed(&bytes, &authority, &[b"http/1.1"]).await, Ok(None));
    assert_eq!(agreed(&bytes, &authority, &[]).await, Ok(None));
}

#[tokio::test]
async fn a_server_that_refuses_our_protocols_may_take_none() {
    let authority = Authority::new("demo.org");
    let mut config = rustls_server(&authority, SUITES[0]);
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let client = our_client(&authority);
    let ask = async |alpn: &[Alpn]| {
        let (near, far) = pair().await;
        let asking = async {
            let mut asked = outbound(Socket::accepted(near), &client, name(), alpn, TIMEOUT).await?;
            bytes::send(&mut asked.stream, b"").await.unwrap();
            Ok::<_, HandshakeFailure>(asked)
        };
        let (asked, _) = soon("both", async { tokio::join!(asking, acceptor.accept(far)) }).await;
        asked.map(|asked| asked.peer.id().to_string()).map_err(|failure| (failure.code, failure.remedy))
    };
    assert_eq!(ask(&[Alpn::Svidecar]).await, Err((Code::PeerRejectedUs, Some(Remedy::NoAlpn))));
    assert_eq!(ask(&[]).await, Ok("spiffe://demo.org/orders".to_owned()));
}

#[tokio::test]
async fn what_is_not_tls_is_told_apart() {
    let authority = Authority::new("demo.org");
    let offers = offers(&authority, true);
    let fails = async |sent: &[u8]| {
        let (mut near, far) = pair().await;
        near.write_all(sent).await.unwrap();
        near.shutdown().await.unwrap();
        let failure =
            soon("a failure", inbound(Socket::accepted(far), &offers, TIMEOUT, || ())).await.err().unwrap();
        let mut answer = Vec::new();
        let _ = near.read_to_end(&mut answer).await;
        (failure.code, answer)
    };
    assert_eq!(fails(b"").await, (Code::PeerClosed, vec![]));
    assert_eq!(fails(b"GET / HTTP/1.1\r\n\r\n").await, (Code::PeerSpokePlaintext, PLAINTEXT_ANSWER.to_vec()));
    assert_eq!(fails(b"\0\x01\x02").await, (Code::PeerSpokePlaintext, vec![]));
    assert_eq!(fails(b"\x16\x03\x01").await.0, Code::PeerClosed);
    // A record that cannot be a ClientHello gets an alert.
    let (code, answer) = fails(b"\x16\x03\x01\0\x04\x02\0\0\0").await;
    assert_eq!((code, answer.first()), (Code::TlsFailed, Some(&0x15)));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_handshake_for_ever() {
    let authority = Authority::new("demo.org");
    let offers = offers(&authority, true);
    let (_silent, far) = pair().await;
    let failure = inbound(Socket::accepted(far), &offers, TIMEOUT, || ()).await.err().unwrap();
    assert_eq!(failure.code, Code::HandshakeTimeout);
    let (near, _silent) = pair().await;
    let failure =
        outbound(Socket::accepted(near), &our_client(&authority), name(), &[], TIMEOUT).await.err().unwrap();
    assert_eq!(failure.code, Code::HandshakeTimeout);
}

#[test]
fn the_plaintext_answer_has_the_length_that_it_says() {
    let text = std::str::from_utf8(PLAINTEXT_ANSWER).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
}

#[test]
fn alerts_are_explained() {
    let alert = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
    let failure = explain(&io::Error::other(alert), Side::Server);
    assert_eq!(failure.code, Code::PeerRejectedUs);
    assert!(failure.detail.contains("bundle for our trust domain"), "{failure}");
}
