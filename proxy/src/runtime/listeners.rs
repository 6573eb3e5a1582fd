//! The listeners that are open, and how they follow the plan: one is opened or closed only when its own address
//! changed.

use std::{collections::HashMap, sync::Arc};

use svidecar_config::{address::ListenAddress, proxy::Limits};
use svidecar_process::descriptors::{self, Descriptors};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    error::ProxyError,
    plan::Plan,
    runtime::{
        accept::Listener,
        budgets::{Budgets, Sizes},
        drain::Direction,
        sockets::{self, BoundListener, ListenSocket, SocketFile},
        workers::Workers,
    },
};

type Key = (Direction, Arc<str>);

/// Listeners by direction and name.
#[derive(Default)]
pub struct Listeners {
    open: HashMap<Key, Open>,
}

/// A listener that is open.
struct Open {
    /// What the settings say; port 0 stays 0.
    wanted: ListenAddress,
    /// Where it really listens.
    address: ListenAddress,
    budgets: Arc<Budgets>,
    stop: CancellationToken,
    _file: Option<SocketFile>,
}

/// Listeners that are bound and not yet in use.
pub struct Opened(Vec<(Key, Wanted, BoundListener)>);

struct Wanted {
    address: ListenAddress,
    sizes: Sizes,
}

impl Listeners {
    /// Binds what the plan wants and is not open yet. Changes nothing else.
    ///
    /// # Errors
    /// The first address that cannot be had.
    pub fn open_new(&self, plan: &Plan, workers: usize) -> Result<Opened, ProxyError> {
        let mut opened = Vec::new();
        for (key, wanted) in wanted(plan) {
            if self.open.get(&key).is_some_and(|open| open.wanted == wanted.address) {
                continue;
            }
            let bound = sockets::bind(&key.1, &wanted.address, workers)?;
            opened.push((key, wanted, bound));
        }
        Ok(Opened(opened))
    }

    /// Puts new listeners to work and stops those that the plan no longer has.
    ///
    /// # Errors
    /// [`ProxyError::WorkerEnded`] when a worker is gone.
    pub async fn take_over(
        &mut self,
        opened: Opened,
        plan: &Plan,
        workers: &Workers,
    ) -> Result<(), ProxyError> {
        let keep: Vec<Key> = wanted(plan).map(|(key, _)| key).collect();
        self.open.retain(|key, open| {
            let stays = keep.contains(key);
            if !stays {
                info!(listener = %key.1, direction = key.0.as_str(), address = %open.address, "Stopped listening");
                open.stop.cancel();
            }
            stays
        });
        warn_of_few_descriptors(plan);
        for (key, wanted) in wanted(plan) {
            if let Some(open) = self.open.get(&key).filter(|open| open.wanted == wanted.address) {
                open.budgets.resize(wanted.sizes);
            }
        }
        for (key, wanted, bound) in opened.0 {
            let (direction, name) = key.clone();
            info!(listener = %name, direction = direction.as_str(), address = %bound.address, "Listening");
            let stop = CancellationToken::new();
            let budgets = Arc::new(Budgets::new(wanted.sizes));
            let BoundListener { address, sockets, file } = bound;
            let listen = wanted.address.clone();
            let open = Open {
                wanted: wanted.address,
                address,
                budgets: Arc::clone(&budgets),
                stop: stop.clone(),
                _file: file,
            };
            if let Some(old) = self.open.insert(key, open) {
                old.stop.cancel();
            }
            let part = |socket: ListenSocket| Listener {
                name: Arc::clone(&name),
                direction,
                listen: listen.clone(),
                socket,
                budgets: Arc::clone(&budgets),
                stop: stop.clone(),
            };
            workers.listen(sockets.into_iter().map(part)).await?;
        }
        Ok(())
    }

    /// Where a listener really listens.
    #[must_use]
    pub fn address(&self, direction: Direction, name: &str) -> Option<ListenAddress> {
        self.open.get(&(direction, Arc::from(name))).map(|open| open.address.clone())
    }

    /// All listeners, for the admin.
    pub fn all(&self) -> impl Iterator<Item = (Direction, &str, &ListenAddress)> {
        self.open.iter().map(|((direction, name), open)| (*direction, &**name, &open.address))
    }
}

fn wanted(plan: &Plan) -> impl Iterator<Item = (Key, Wanted)> {
    let most = most_connections(descriptors::table(), plan.inbound.len() + plan.outbound.len());
    let inbound = plan.inbound.iter().map(move |listener| {
        let settings = &listener.settings;
        let wanted = Wanted::new(&settings.listen, &settings.limits, most);
        ((Direction::Inbound, Arc::clone(&listener.name)), wanted)
    });
    let outbound = plan.outbound.iter().map(move |listener| {
        let settings = &listener.settings;
        let wanted = Wanted::new(&settings.listen, &settings.limits, most);
        ((Direction::Outbound, Arc::clone(&listener.name)), wanted)
    });
    inbound.chain(outbound)
}

impl Wanted {
    fn new(address: &ListenAddress, limits: &Limits, most: usize) -> Self {
        let (connections, head) = (limits.max_connections as usize, limits.max_header_bytes.as_usize());
        Self { address: address.clone(), sizes: Sizes { connections, most, head } }
    }
}

/// What one of so many listeners may have at most: half of what there are descriptors for is for those that come, half for those
/// that we dial.
fn most_connections(table: Descriptors, listeners: usize) -> usize {
    (table.for_connections() / 2 / listeners.max(1)).max(1)
}

/// Says which limits of the settings cannot be reached.
fn warn_of_few_descriptors(plan: &Plan) {
    let inbound = plan.inbound.iter().map(|listener| (&listener.name, &listener.settings.limits));
    let outbound = plan.outbound.iter().map(|listener| (&listener.name, &listener.settings.limits));
    let most = most_connections(descriptors::table(), plan.inbound.len() + plan.outbound.len());
    for (name, limits) in inbound.chain(outbound).filter(|(_, limits)| limits.max_connections as usize > most)
    {
        info!(
            listener = %name,
            max_connections = limits.max_connections,
            most,
            "There are not enough descriptors for max_connections; raise the limit of open files to have more than this"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_share_what_there_are_descriptors_for() {
        let table = descriptors::table();
        let all = table.for_connections();
        for listeners in 1..10 {
            assert!(listeners * most_connections(table, listeners) <= all / 2);
        }
        assert_eq!(most_connections(table, all), 1);
    }
}
