//! Documents that people write: YAML in, values of our types out, and every mistake at once with its place.
//!
//! The one reader behind settings, policies and lists of entries. A document is read in three steps: [`yaml`] keeps the
//! place of every key and value, [`check`](mod@check) compares them with the JSON Schema of the type that is wanted, and
//! [`document`] fills that type. What a kind of document has of its own (formats of texts, keys from elsewhere) is a
//! [`Dialect`](check::Dialect). This crate must never open a file, and never know what a value is used for.

pub mod check;
pub mod diagnostic;
pub mod document;
pub mod finding;
pub mod keys;
pub mod node;
pub mod problems;
pub mod required;
pub mod schema;
pub mod text;
pub mod yaml;
