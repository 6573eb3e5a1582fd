//! What a connection and a request hold of memory for as long as they last: their tasks, and what lives in those. Only for
//! tests.
//!
//! Never the buffers: those are there only while bytes are on their way.

use crate::{
    forward::{exchange::Exchange, http2, inbound, outbound},
    http1,
    io::{Transport, tls::TlsStream},
    record::Recording,
    runtime::{
        accept,
        connections::Follower,
        handshake,
        life::{Accepted, Life},
    },
    upstream::{Upstream, connect::connect, facts::ConnectionFacts},
};

/// The size of the future that `make` would give. Nothing is made: its type is enough.
pub fn of<F: Future>(_make: impl FnOnce() -> F) -> usize {
    size_of::<F>()
}

/// Stands for an argument of what is not called.
pub fn any<T>() -> T {
    panic!("sizes are taken without a call")
}

/// Holds it to its limit, which is a few percent above what it was when the limit was set.
pub fn hold(what: &str, bytes: usize, limit: usize) {
    assert!(
        bytes <= limit,
        "{what} has {bytes} bytes, its limit is {limit}. What lives across an await is in a future: end it before, or \
         box what is there only for a moment (`Box::pin`). If each of them is to take so much from now on, raise the \
         limit, and say in the commit what for."
    );
}

#[test]
fn the_tasks_of_connections_stay_small() {
    hold("a peer's connection", of(|| inbound::serve(any(), any(), any(), any())), 5_060);
    hold("a workload's connection", of(|| outbound::serve(any(), any(), any(), any())), 4_440);
    hold("a listener that accepts", of(|| accept::run(any(), any(), any())), 900);
}

#[test]
fn the_task_of_a_request_in_http2_stays_small() {
    let request = || http2::request(any(), any(), any(), any(), any());
    hold("a request in HTTP/2", of(request), 1_500);
}

/// What is boxed and gone before the first request, or before the request goes on.
#[test]
fn what_lasts_for_a_moment_stays_small() {
    hold("a peer's handshake", of(|| handshake::inbound(any(), any(), any(), || ())), 3_750);
    hold("a server's handshake", of(|| handshake::outbound(any(), any(), any(), any(), any())), 770);
    hold("opening a connection", of(|| connect(any(), any(), any(), any(), any())), 950);
    hold("opening a way for a request", of(|| Upstream::ready(any(), any(), any())), 910);
    hold("opening a way for bytes", of(|| Upstream::bytes(any(), any())), 1_250);
}

#[test]
fn what_lives_in_a_connection_stays_small() {
    hold("an exchange", size_of::<Exchange>(), 640);
    hold("a recording", size_of::<Recording>(), 312);
    hold("a connection of HTTP/1", size_of::<http1::Connection<Transport>>(), 240);
    hold("a transport", size_of::<Transport>(), 64);
    hold("a TLS stream", size_of::<TlsStream>(), 328);
    hold("a follower", size_of::<Follower>(), 88);
    hold("a life", size_of::<Life>(), 40);
    hold("an accepted connection", size_of::<Accepted>(), 136);
    hold("the facts of an upstream's connection", size_of::<ConnectionFacts>(), 136);
}
