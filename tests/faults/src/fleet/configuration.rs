//! Files and addresses of the fleet. Owns what each process reads; starts none.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use svidecar_stack::ports;

use crate::{
    link::Link,
    part::{AGENTS, FRONT, ORDERS, Part, STOCK},
};

/// The trust domain.
pub const TRUST_DOMAIN: &str = "demo.org";

/// How long an SVID lives: long enough for every outage of the schedule, short enough to be renewed several times.
pub const TTL: Duration = Duration::from_secs(60);

/// Where an app listens.
#[derive(Clone, Copy, Debug)]
pub struct App {
    /// HTTP.
    pub http: SocketAddr,
    /// The echo.
    pub echo: SocketAddr,
}

/// Where everybody listens; the same in all lives.
pub struct Addresses {
    server: SocketAddr,
    server_health: SocketAddr,
    /// Where each agent finds the server.
    links: Vec<SocketAddr>,
    agents_health: Vec<SocketAddr>,
    apps: [App; 2],
    admin: [SocketAddr; 4],
    /// Inbound listeners.
    orders: SocketAddr,
    stock: SocketAddr,
    stock_echo: SocketAddr,
    /// Outbound listeners: of the front to orders, stock and its echo; of the intern to orders and stock.
    pub front_orders: SocketAddr,
    pub front_stock: SocketAddr,
    pub front_echo: SocketAddr,
    pub intern_orders: SocketAddr,
    pub intern_stock: SocketAddr,
}

impl Addresses {
    /// Free ports for all.
    pub(super) fn new(server: SocketAddr, links: &[Link]) -> Result<Self> {
        let app = || Ok::<_, anyhow::Error>(App { http: ports::free()?, echo: ports::free()? });
        Ok(Self {
            server,
            server_health: ports::free()?,
            links: links.iter().map(|link| link.address).collect(),
            agents_health: (0..AGENTS).map(|_| ports::free()).collect::<Result<_>>()?,
            apps: [app()?, app()?],
            admin: [ports::free()?, ports::free()?, ports::free()?, ports::free()?],
            orders: ports::free()?,
            stock: ports::free()?,
            stock_echo: ports::free()?,
            front_orders: ports::free()?,
            front_stock: ports::free()?,
            front_echo: ports::free()?,
            intern_orders: ports::free()?,
            intern_stock: ports::free()?,
        })
    }

    /// An app's.
    #[must_use]
    pub const fn app(&self, number: usize) -> App {
        if number == 0 { self.apps[0] } else { self.apps[1] }
    }

    /// Where a part says whether it is ready.
    pub(super) fn ready(&self, part: Part) -> Option<(SocketAddr, &'static str)> {
        match part {
            Part::Server => Some((self.server_health, "/ready")),
            Part::Agent(number) => Some((*self.agents_health.get(number)?, "/ready")),
            Part::Proxy(number) => Some((*self.admin.get(number)?, "/ready")),
            Part::App(number) => Some((self.app(number).http, "/")),
            Part::Workload(_) => None,
        }
    }
}

/// The server's socket for administrators.
pub(super) fn server_socket(dir: &Path) -> PathBuf {
    dir.join("private/server.sock")
}

/// The Workload API of a part's agent.
pub(super) fn workload_api(dir: &Path, part: Part) -> PathBuf {
    dir.join(format!("public-{}/agent.sock", part.agent()))
}

/// Writes what a part reads when it starts.
pub(super) fn write(dir: &Path, part: Part, addresses: &Addresses) -> Result<()> {
    let text = match part {
        Part::Server => server(dir, addresses),
        Part::Agent(_) => agent(dir, part, addresses),
        Part::Proxy(_) => proxy(dir, part, addresses),
        Part::App(_) | Part::Workload(_) => return Ok(()),
    };
    std::fs::write(dir.join(format!("{part}.yaml")), text)?;
    if part == ORDERS {
        write_orders_policy(dir, false)?;
    }
    if part == STOCK {
        std::fs::write(dir.join("stock-policy.yaml"), STOCK_POLICY)?;
        std::fs::write(dir.join("echo-policy.yaml"), ECHO_POLICY)?;
    }
    Ok(())
}

fn server(dir: &Path, addresses: &Addresses) -> String {
    let (dir, ttl) = (dir.display(), TTL.as_secs());
    format!(
        "trust_domain: {TRUST_DOMAIN}\ndata_dir: {dir}/server/data\nbind_address: 127.0.0.1\nbind_port: {port}\n\
         socket_path: {dir}/private/server.sock\nhealth: {{listen: \"{health}\"}}\n\
         default_x509_svid_ttl: {ttl}s\ndefault_jwt_svid_ttl: {ttl}s\nagent_ttl: {ttl}s\nca_ttl: {ca}s\n",
        port = addresses.server.port(),
        health = addresses.server_health,
        ca = 6 * ttl,
    )
}

fn agent(dir: &Path, part: Part, addresses: &Addresses) -> String {
    let number = part.agent();
    let port = addresses.links.get(number).map_or(0, SocketAddr::port);
    let health = addresses.agents_health.get(number).map(ToString::to_string).unwrap_or_default();
    format!(
        "trust_domain: {TRUST_DOMAIN}\ndata_dir: {dir}/{part}/data\nserver_address: 127.0.0.1\n\
         server_port: {port}\nsocket_path: {socket}\njoin_token_file: {dir}/{part}.token\n\
         health: {{listen: \"{health}\"}}\n",
        socket = workload_api(dir, part).display(),
        dir = dir.display(),
    )
}

fn proxy(dir: &Path, part: Part, addresses: &Addresses) -> String {
    let number = if let Part::Proxy(number) = part { number } else { 0 };
    let admin = addresses.admin.get(number).map(ToString::to_string).unwrap_or_default();
    let inbound = |name: &str, listen: SocketAddr, protocol: &str, forward: SocketAddr| {
        format!(
            "  - {{name: {name}, listen: \"{listen}\", protocol: {protocol}, forward: \"{forward}\", \
             policy: {name}-policy.yaml}}\n"
        )
    };
    let outbound = |name: &str, listen: SocketAddr, protocol: &str, to: SocketAddr, id: Part| {
        format!(
            "  - {{name: {name}, listen: \"{listen}\", protocol: {protocol}, \
             upstream: {{endpoints: [\"{to}\"], server_id: [\"{}\"]}}}}\n",
            id.spiffe_id().unwrap_or_default()
        )
    };
    let a = addresses;
    let listeners = match part {
        ORDERS => format!("inbound:\n{}", inbound("orders", a.orders, "http", a.app(0).http)),
        STOCK => format!(
            "inbound:\n{}{}",
            inbound("stock", a.stock, "http", a.app(1).http),
            inbound("echo", a.stock_echo, "tcp", a.app(1).echo)
        ),
        FRONT => format!(
            "outbound:\n{}{}{}",
            outbound("orders", a.front_orders, "http", a.orders, ORDERS),
            outbound("stock", a.front_stock, "http", a.stock, STOCK),
            outbound("echo", a.front_echo, "tcp", a.stock_echo, STOCK)
        ),
        _ => format!(
            "outbound:\n{}{}",
            outbound("orders", a.intern_orders, "http", a.orders, ORDERS),
            outbound("stock", a.intern_stock, "http", a.stock, STOCK)
        ),
    };
    format!(
        "workload_api: unix://{api}\nadmin: {{listen: \"{admin}\"}}\naccess_log: {{path: {dir}/logs/{part}.access}}\n\
         drain_timeout: 2s\n{listeners}",
        api = workload_api(dir, part).display(),
        dir = dir.display(),
    )
}

const STOCK_POLICY: &str = "\
service: stock
default: deny
rules:
  - {name: all-may-look, from: [spiffe://demo.org/front, spiffe://demo.org/intern], to: [{methods: [GET]}]}
  - {name: front-may-fill, from: [spiffe://demo.org/front], to: [{methods: [POST]}]}
";

const ECHO_POLICY: &str = "\
service: echo
rules:
  - {name: front-may-connect, from: [spiffe://demo.org/front]}
";

/// The policy before the orders; interns may look there, or not.
pub(super) fn write_orders_policy(dir: &Path, interns: bool) -> Result<()> {
    let mut policy = "\
service: orders
default: deny
rules:
  - {name: front-may-order, from: [spiffe://demo.org/front], to: [{methods: [GET, POST]}]}
"
    .to_owned();
    if interns {
        policy.push_str(
            "  - {name: interns-may-look, from: [spiffe://demo.org/intern], to: [{methods: [GET]}]}\n",
        );
    }
    let file = dir.join("orders-policy.yaml");
    let next = file.with_extension("next");
    std::fs::write(&next, policy)?;
    std::fs::rename(next, file)?;
    Ok(())
}
