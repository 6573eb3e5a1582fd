//! What a worker does with the connections it accepts: by direction, the way of an inbound or an outbound one.

use std::{rc::Rc, sync::Arc};

use super::{inbound, outbound};
use crate::{
    runtime::{accept::Service, drain::Direction, life::Accepted, worker::Worker},
    upstream::upstreams::Upstreams,
};

struct Forwarding {
    worker: Rc<Worker>,
    upstreams: Rc<Upstreams>,
}

/// The service of one worker, with upstreams of its own.
#[must_use]
pub fn service(worker: &Rc<Worker>) -> Rc<dyn Service> {
    Rc::new(Forwarding { worker: Rc::clone(worker), upstreams: Rc::default() })
}

impl Service for Forwarding {
    fn serve(&self, direction: Direction, listener: &Arc<str>, accepted: Accepted) {
        let (worker, upstreams) = (Rc::clone(&self.worker), Rc::clone(&self.upstreams));
        let listener = Arc::clone(listener);
        match direction {
            Direction::Inbound => self.worker.spawn(inbound::serve(worker, upstreams, listener, accepted)),
            Direction::Outbound => self.worker.spawn(outbound::serve(worker, upstreams, listener, accepted)),
        }
    }
}
