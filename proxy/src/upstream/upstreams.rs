//! The upstreams that one worker has, each with its own connections.
//!
//! Follows the plan: what the settings no longer name is dropped; requests that run over it finish.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use super::{Upstream, aborts::Aborts};
use crate::{plan::upstream::UpstreamSpec, runtime::worker::Worker};

/// One worker's upstreams.
#[derive(Default)]
pub struct Upstreams {
    all: RefCell<Vec<Rc<Upstream>>>,
    /// What its callers gave up.
    pub aborts: Aborts,
}

impl Upstreams {
    /// The worker's upstream of `spec`. The first use after a change of the settings drops what they no longer name.
    pub fn of(&self, worker: &Worker, spec: &Arc<UpstreamSpec>) -> Rc<Upstream> {
        let mut upstreams = self.all.borrow_mut();
        if let Some(known) = upstreams.iter().find(|upstream| Arc::ptr_eq(upstream.spec(), spec)) {
            return Rc::clone(known);
        }
        let snapshot = worker.shared.current.load();
        upstreams.retain(|upstream| snapshot.plan.leads_to(upstream.spec()));
        let new = Upstream::new(Arc::clone(spec));
        upstreams.push(Rc::clone(&new));
        new
    }
}
