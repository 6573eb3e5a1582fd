use super::multiplexed;
use crate::{
    forward::{caller::Caller, http1, incoming::Incoming, rules::Rules, tcp},
    sizes::{any, hold, of},
};

#[test]
fn the_tasks_within_a_shared_connection_stay_small() {
    hold("a connection of HTTP/2", of(|| multiplexed::serve(any(), any(), any(), any())), 900);
    hold("a connection of HTTP/1.1 in a stream", of(|| http1::serve(any(), any())), 3_900);
    hold("a connection of TCP in a stream", of(|| tcp::serve(any(), any(), any())), 1_280);
    hold("what is known of a peer's connection", size_of::<Incoming>() + size_of::<Rules>(), 400);
    hold("what is known of a caller", size_of::<Caller>(), 56);
}
