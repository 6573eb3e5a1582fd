//! Sidecars with a raw client before and a raw app behind.

use std::{fmt::Display, net::SocketAddr};

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

use super::{process::Process, wire::Wire};
use crate::support::{
    agent::{Agent, Says},
    authority::Authority,
    client::mtls,
    sidecar::{POLICY, Sidecar},
    soon,
};

/// Where a client meets the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A peer in mutual TLS at the inbound listener: client → sidecar → app.
    Inbound,
    /// Our workload in plain text at the outbound listener: client → sidecar → sidecar → app.
    Pair,
}

impl Door {
    pub const BOTH: [Self; 2] = [Self::Inbound, Self::Pair];
}

/// Sidecars that run within the test, or as processes of their own.
pub struct Scene<S = Sidecar> {
    pub door: Door,
    pub server: S,
    pub client: Option<S>,
    inbound: SocketAddr,
    pub outbound: Option<SocketAddr>,
    authority: Authority,
    orders: Agent,
    shop: Agent,
}

/// What the sidecars are given.
struct Cast {
    authority: Authority,
    orders: Agent,
    shop: Agent,
}

impl Cast {
    async fn call() -> Self {
        let authority = Authority::new("demo.org");
        let orders = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
        let shop = Agent::start(Says::Gives(authority.response("/shop", &[]))).await;
        Self { authority, orders, shop }
    }
}

/// Lets `demo.org/shop` connect.
pub const BYTES_POLICY: &str = "
service: orders
rules:
  - {name: shop-may-connect, from: [spiffe://demo.org/shop]}
";

fn inbound(protocol: &str, app: impl Display) -> String {
    format!(
        "inbound:\n  - name: orders\n    listen: \"127.0.0.1:0\"\n    protocol: {protocol}\n    forward: \"{app}\"\n    policy: policy.yaml\n"
    )
}

fn outbound(protocol: &str, peer: SocketAddr) -> String {
    format!(
        "outbound:\n  - name: orders\n    listen: \"127.0.0.1:0\"\n    protocol: {protocol}\n    upstream: {{endpoints: [\"{peer}\"], server_id: [\"spiffe://demo.org/orders\"]}}\n"
    )
}

impl Scene {
    /// Leads to the app at `app`, which speaks HTTP/1.1.
    pub async fn at(door: Door, app: impl Display) -> Self {
        Self::with(door, app, "").await
    }

    /// The same, with more settings of the inbound listener.
    pub async fn with(door: Door, app: impl Display, settings: &str) -> Self {
        let Cast { authority, orders, shop } = Cast::call().await;
        let server = Sidecar::ready(&orders, &format!("{}    {settings}\n", inbound("http", app))).await;
        let peer = server.inbound("orders");
        let client = match door {
            Door::Inbound => None,
            Door::Pair => Some(Sidecar::ready(&shop, &outbound("http", peer)).await),
        };
        let outbound = client.as_ref().map(|client| client.outbound("orders"));
        Self { door, server, client, inbound: peer, outbound, authority, orders, shop }
    }

    /// A pair that leads bytes of any protocol to the app at `app`.
    pub async fn of_bytes(app: impl Display) -> Self {
        let Cast { authority, orders, shop } = Cast::call().await;
        let server = Sidecar::with_policy(&orders, &inbound("tcp", app), BYTES_POLICY).await;
        server.until(|readiness| readiness.ready).await;
        let inbound = server.inbound("orders");
        let client = Sidecar::ready(&shop, &outbound("tcp", inbound)).await;
        let outbound = Some(client.outbound("orders"));
        Self { door: Door::Pair, server, client: Some(client), inbound, outbound, authority, orders, shop }
    }

    /// Ends the sidecars, and with them every connection to the app.
    pub fn stop(self) {
        if let Some(client) = self.client {
            client.proxy.stop();
        }
        self.server.proxy.stop();
    }
}

impl Scene {
    /// Gives the server an SVID of the same ID by another root, and only that root, and waits until it is in force.
    pub async fn replace_root(&self) {
        let mut changes = self.server.proxy.shared().current.subscribe();
        self.orders.says(Says::Gives(Authority::new("demo.org").response("/orders", &[])));
        soon("another root", changes.changed()).await.unwrap();
    }
}

impl Scene<Process> {
    /// As [`Scene::at`], with the built binary.
    pub async fn of_processes(door: Door, app: impl Display) -> Self {
        let Cast { authority, orders, shop } = Cast::call().await;
        let server = Process::start(&orders, &inbound("http", app), POLICY).await;
        let client = match door {
            Door::Inbound => None,
            Door::Pair => Some(Process::start(&shop, &outbound("http", server.listener), POLICY).await),
        };
        let outbound = client.as_ref().map(|client| client.listener);
        Self { door, inbound: server.listener, outbound, server, client, authority, orders, shop }
    }
}

impl<S> Scene<S> {
    /// Gives both sides new SVIDs.
    pub fn rotate(&self) {
        self.orders.says(Says::Gives(self.authority.response("/orders", &[])));
        self.shop.says(Says::Gives(self.authority.response("/shop", &[])));
    }

    /// A client that speaks HTTP/1.1.
    pub async fn connect(&self) -> Wire {
        self.connect_with(b"http/1.1").await
    }

    /// A client that speaks what `alpn` names.
    pub async fn connect_with(&self, alpn: &[u8]) -> Wire {
        match self.outbound {
            Some(address) => {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                Wire::plain(stream)
            }
            None => Wire::tls(self.mtls_as("/shop", alpn).await),
        }
    }

    /// A connection of mutual TLS to the inbound listener, of the peer with this path.
    pub async fn mtls_as(&self, peer: &str, alpn: &[u8]) -> TlsStream<TcpStream> {
        mtls(self.inbound, &self.authority, self.authority.identity(peer), &[alpn]).await.unwrap()
    }
}

/// An app whose side of each connection the test plays.
pub struct App {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl App {
    pub async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// The connection that must come now.
    pub async fn accept(&self) -> Wire {
        soon("a connection to the app", self.accept_whenever()).await
    }

    /// The next connection, if there ever is one.
    pub async fn accept_whenever(&self) -> Wire {
        let (stream, _) = self.listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        Wire::plain(stream)
    }
}
