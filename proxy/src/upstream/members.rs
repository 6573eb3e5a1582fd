//! The addresses that one name of the settings stands for, and what is known of each.
//!
//! Follows what the name leads to. An address that it no longer leads to is not dialled any more, and what is open to it
//! serves on.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use svidecar_code::Code;
use svidecar_config::address::Address;

use super::{
    balance,
    channel::Ready,
    connect::{self, Allowance, Failure, Offer},
    endpoint::Endpoint,
    health::Health,
    place::{Location, Place},
    resolve::Resolver,
};
use crate::{message::refusal::Refusal, plan::upstream::UpstreamSpec, runtime::worker::Worker};

/// What one name stands for, as one worker sees it.
pub struct Members {
    spec: Arc<UpstreamSpec>,
    name: Address,
    /// None for what is an address itself.
    resolver: Option<Resolver>,
    /// Those that the name leads to, in the order of the last answer.
    current: RefCell<Vec<Rc<Endpoint>>>,
    /// Those that it led to, as long as something is open to them.
    former: RefCell<Vec<Rc<Endpoint>>>,
    /// Of the name, for what fails before an address is known.
    health: Health,
}

impl Members {
    /// Without any connection yet, and without an address where a name has to be looked up.
    #[must_use]
    pub fn new(spec: &Arc<UpstreamSpec>, name: &Address) -> Self {
        let this = Self {
            spec: Arc::clone(spec),
            name: name.clone(),
            resolver: match name {
                Address::Tcp { host, port } if Location::of(name).is_none() => {
                    Some(Resolver::new(host, *port))
                }
                _ => None,
            },
            current: RefCell::default(),
            former: RefCell::default(),
            health: Health::default(),
        };
        this.leads_to(Location::of(name).into_iter().collect());
        this
    }

    /// Whether all of them failed a moment ago.
    #[must_use]
    pub fn is_avoided(&self) -> bool {
        let current = self.current.borrow();
        self.health.is_avoided()
            || (!current.is_empty() && current.iter().all(|endpoint| endpoint.health.is_avoided()))
    }

    /// A connection of HTTP/1 that has served a request and waits for the next.
    #[must_use]
    pub fn pooled(&self, worker: &Worker) -> Option<Ready> {
        let (current, former) = (self.current.borrow(), self.former.borrow());
        let mut working = current.iter().chain(&*former).filter(|endpoint| !endpoint.health.is_avoided());
        working.find_map(|endpoint| endpoint.pooled(worker))
    }

    /// Asks one that a shared connection with room for that purpose is open to. Without such a one, asks those that the
    /// name leads to, one after the other, as long as they take no connection.
    ///
    /// # Errors
    /// What the last one that was asked says.
    pub async fn first_that_works<T>(
        &self,
        worker: &Worker,
        offer: Offer,
        ask: &impl AsyncFn(&Endpoint, &mut Allowance) -> Result<T, Failure>,
    ) -> Result<T, Refusal> {
        let mut allowance = Allowance::new(&self.spec);
        if let Some(endpoint) = self.open_to(worker, offer) {
            match self.note(&endpoint, ask(&endpoint, &mut allowance).await) {
                // It went away meanwhile.
                Err(Failure::Unreachable(_)) => {}
                answer => return Ok(answer?),
            }
        }
        let endpoints = self.to_dial(worker, &mut allowance).await.inspect_err(|_| self.health.failed())?;
        self.first_to_accept(&endpoints, &mut allowance, ask).await
    }

    async fn first_to_accept<T>(
        &self,
        endpoints: &[Rc<Endpoint>],
        allowance: &mut Allowance,
        ask: &impl AsyncFn(&Endpoint, &mut Allowance) -> Result<T, Failure>,
    ) -> Result<T, Refusal> {
        let mut asked = Vec::new();
        let mut last = None;
        while let Some((place, endpoint)) = next(endpoints, &asked) {
            match self.note(endpoint, ask(endpoint, allowance).await) {
                Ok(got) => return Ok(got),
                Err(Failure::Refused(refusal)) => return Err(refusal),
                Err(Failure::Unreachable(refusal)) => last = Some(refusal),
            }
            asked.push(place);
        }
        if let Some(resolver) = &self.resolver {
            resolver.doubt();
        }
        Err(last.unwrap_or_else(|| {
            Refusal::new(
                Code::UpstreamUnresolved,
                format!("`{}` at {} has no address", self.spec.name, self.name),
            )
        }))
    }

    /// Notes what became of asking one of them.
    fn note<T>(&self, endpoint: &Endpoint, answer: Result<T, Failure>) -> Result<T, Failure> {
        match &answer {
            Ok(_) => {
                endpoint.health.works();
                self.health.works();
            }
            // That is our own limit.
            Err(Failure::Refused(refusal)) if refusal.code == Code::TooManyUpstreamConnections => {}
            Err(_) => endpoint.health.failed(),
        }
        answer
    }

    /// One that a shared connection with room is open to, among those that work, if any does.
    fn open_to(&self, worker: &Worker, offer: Offer) -> Option<Rc<Endpoint>> {
        let may_be_avoided = self.is_avoided();
        let (current, former) = (self.current.borrow(), self.former.borrow());
        let mut usable =
            current.iter().chain(&*former).filter(|endpoint| may_be_avoided || !endpoint.health.is_avoided());
        usable.find(|endpoint| endpoint.has_room(worker, offer)).cloned()
    }

    /// Those that may be dialled, looked up if need be.
    async fn to_dial(
        &self,
        worker: &Worker,
        allowance: &mut Allowance,
    ) -> Result<Vec<Rc<Endpoint>>, Refusal> {
        connect::require_identity(&worker.shared, &self.spec)?;
        if let Some(resolver) = &self.resolver {
            match allowance.spend(resolver.addresses()).await {
                Some(Ok(addresses)) => self.leads_to(addresses.iter().copied().map(Location::Tcp).collect()),
                Some(Err(error)) => return Err(connect::unresolved(&self.spec, &self.name, &error)),
                None => return Err(connect::too_slow(&self.spec, &self.name)),
            }
        }
        Ok(self.current.borrow().clone())
    }

    /// The name leads to these addresses from now on. Those that stay keep what is known of them.
    fn leads_to(&self, locations: Vec<Location>) {
        if self.current.borrow().iter().map(|endpoint| endpoint.location()).eq(&locations) {
            return;
        }
        let mut known = self.current.take();
        known.append(&mut self.former.take());
        let current = locations.into_iter().map(|location| {
            match known.iter().position(|endpoint| *endpoint.location() == location) {
                Some(place) => known.swap_remove(place),
                None => {
                    let (spec, name) = (Arc::clone(&self.spec), self.name.clone());
                    Rc::new(Endpoint::new(Place { spec, name, location }))
                }
            }
        });
        self.current.replace(current.collect());
        known.retain(|endpoint| endpoint.is_in_use());
        self.former.replace(known);
    }
}

/// The one to be asked next: the first that works, of those that were not.
fn next<'e>(endpoints: &'e [Rc<Endpoint>], asked: &[usize]) -> Option<(usize, &'e Endpoint)> {
    let states = endpoints.iter().enumerate().map(|(place, endpoint)| balance::State {
        is_avoided: endpoint.health.is_avoided(),
        was_asked: asked.contains(&place),
    });
    let place = balance::next(states, 0)?;
    Some((place, endpoints.get(place)?))
}

#[cfg(test)]
mod tests;
