use super::{caller, connection::PeerConnection, multiplexed, tcp};
use crate::sizes::{any, hold, of};

#[test]
fn the_tasks_within_a_shared_connection_stay_small() {
    hold("a connection of HTTP/2", of(|| multiplexed::serve(any(), any(), any(), any())), 960);
    hold("a connection of HTTP/1.1 in a stream", of(|| caller::serve(any(), any(), any())), 4_400);
    hold("a connection of TCP in a stream", of(|| tcp::serve(any(), any(), any())), 1_050);
    hold("what is known of a peer's connection", size_of::<PeerConnection>(), 336);
}
