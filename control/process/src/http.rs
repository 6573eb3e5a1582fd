//! Plain HTTP beside what a program is for: pages for probes, scrapers and people, and the one request that gets a page.
//!
//! Owns the bounds: of connections, of heads and bodies, and of every wait. It must never carry what a workload asks for.

mod get;
mod pages;
mod reply;
mod serve;

pub use get::{Get, GetError};
pub use pages::serve_pages;
pub use reply::Reply;
pub use serve::{Asked, Client, Door, Limits, serve};
