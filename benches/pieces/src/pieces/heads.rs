//! Heads of HTTP/1.1 and the identity headers in them.

use std::hint::black_box;

use anyhow::{Context as _, Result, anyhow, ensure};
use rustls_pki_types::CertificateDer;
use svidecar::http1::{Framing, Limits, parse, write};
use svidecar::io::Buffer;
use svidecar::message::hops;
use svidecar::message::identity::{IdentityHeaders, PeerFacts, PeerHeaders, xfcc};
use svidecar::message::{RequestHead, ResponseHead};
use svidecar::{admit::normalize, http1};
use svidecar_config::proxy::IdentityHeaderSettings;

use super::given::{CLIENT_ID, SERVER_ID, id};

const REQUEST: &[u8] = b"GET /orders/17?full=yes HTTP/1.1\r\nHost: orders.demo.org\r\nUser-Agent: shop/2.1\r\n\
    Accept: application/json\r\nAccept-Encoding: gzip, br\r\nX-Request-Id: 5f0c2f3a-6f0e-4c57-9c58-3f1b2f0a9d11\r\n\
    Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nCookie: session=31d4d96e407aad42\r\n\
    Connection: keep-alive\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n\
    Cache-Control: no-store\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\nServer: orders/1\r\n\r\n";

/// The request's head, read.
pub fn request_head() -> Result<RequestHead> {
    let mut head = RequestHead::default();
    read(&mut head)?;
    Ok(head)
}

fn read(head: &mut RequestHead) -> Result<()> {
    let size = parse::request(black_box(REQUEST), Limits::default(), head).map_err(refused)?;
    ensure!(size == Some(REQUEST.len()), "the head is not complete");
    Ok(())
}

fn refused(fault: http1::Fault) -> anyhow::Error {
    anyhow!("refused: {fault:?}")
}

pub fn read_request(times: usize) -> Result<()> {
    let mut head = RequestHead::default();
    (0..times).try_for_each(|_| read(&mut head))
}

pub fn pass_request(times: usize) -> Result<()> {
    let (headers, peer) = headers_of_peer()?;
    let (mut head, mut out) = (RequestHead::default(), Buffer::new());
    for _ in 0..times {
        read(&mut head)?;
        normalize::normalize(&mut head).ok().context("the target was refused")?;
        hops::clean_request(&mut head);
        headers.rewrite(&mut head.fields, Some(&peer));
        let framing = Framing::of_request(&head).map_err(refused)?;
        out.clear();
        write::request(&head, framing, &mut out);
        ensure!(out.filled().len() > REQUEST.len(), "the request has no identity headers");
    }
    Ok(())
}

pub fn pass_response(times: usize) -> Result<()> {
    let (mut head, mut out) = (ResponseHead::default(), Buffer::new());
    for _ in 0..times {
        let size = parse::response(black_box(RESPONSE), Limits::default(), &mut head).map_err(refused)?;
        ensure!(size == Some(RESPONSE.len()), "the head is not complete");
        let framing = Framing::of_response(&head, "GET").map_err(refused)?;
        hops::clean_response(&mut head);
        out.clear();
        write::response(&head, framing, &mut out);
        ensure!(out.filled().len() == RESPONSE.len(), "the response has changed");
    }
    Ok(())
}

/// With a copy of the fields each time, because they are changed.
pub fn identity_headers(times: usize) -> Result<()> {
    let (headers, peer) = headers_of_peer()?;
    let head = request_head()?;
    for _ in 0..times {
        let mut fields = black_box(&head.fields).clone();
        headers.rewrite(&mut fields, Some(&peer));
        ensure!(fields.contains("x-spiffe-id"), "no identity header was set");
    }
    Ok(())
}

pub fn peer_headers(times: usize) -> Result<()> {
    let headers = compiled()?;
    let (peer, own, chain) = (id(CLIENT_ID)?, id(SERVER_ID)?, [CertificateDer::from(vec![7; 700])]);
    for _ in 0..times {
        let facts = PeerFacts { id: &peer, own_id: Some(&own), chain: &chain };
        black_box(headers.of_peer(black_box(&facts)));
    }
    Ok(())
}

pub fn xfcc_parse(times: usize) -> Result<()> {
    let hash = "1b".repeat(32);
    let element = format!("By={SERVER_ID};Hash={hash};Subject=\"CN=shop,O=Demo\";URI={CLIENT_ID}");
    let text = format!("{element},{element}");
    for _ in 0..times {
        ensure!(xfcc::parse(black_box(&text))?.len() == 2, "there are two elements");
    }
    Ok(())
}

fn compiled() -> Result<IdentityHeaders> {
    Ok(IdentityHeaders::compile(&IdentityHeaderSettings::default())?)
}

fn headers_of_peer() -> Result<(IdentityHeaders, PeerHeaders)> {
    let (peer, own, chain) = (id(CLIENT_ID)?, id(SERVER_ID)?, [CertificateDer::from(vec![7; 700])]);
    let headers = compiled()?;
    let of_peer = headers.of_peer(&PeerFacts { id: &peer, own_id: Some(&own), chain: &chain });
    Ok((headers, of_peer))
}
