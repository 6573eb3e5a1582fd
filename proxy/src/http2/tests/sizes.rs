use crate::{
    http2::{session::Inner, streams::Slot},
    sizes::hold,
};

#[test]
fn what_a_connection_and_a_stream_hold_stays_small() {
    hold("a connection of HTTP/2", size_of::<Inner>(), 2_936);
    hold("a stream of HTTP/2", size_of::<Slot>(), 272);
}
