//! How the agent becomes one of its trust domain's, and stays it.
//!
//! Owns the first contact with a server ([`meet`]), what it goes by ([`source`]), join tokens ([`token`]), the exchange
//! that gives an agent its own SVID ([`node`]), the tries until there is one ([`first`]), coming back
//! after an outage ([`mod@come_back`]), and going over to a server that
//! took the place of the one before ([`rejoin`]). It knows nothing of workloads.

pub mod come_back;
mod document;
pub mod first;
pub mod meet;
pub mod node;
pub mod rejoin;
pub mod source;
pub mod token;
mod url;

pub use come_back::{Back, come_back};
pub use first::{Attested, first_svid};
pub use rejoin::{Rejoin, Rejoined};
pub use source::Source;
pub use token::{JoinToken, TokenSource};
