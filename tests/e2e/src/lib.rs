//! What the end-to-end tests share: the clients and peers that others wrote, and two sidecars with an app.
//!
//! Owns no test. A test says which tool it needs; where that is missing it skips itself by name.

mod pair;
mod tools;

pub use pair::{
    CLIENT_ID, Pair, SERVER_ID, app, explain, listening, proxy_of, stack, svid_files, workload_path,
};
pub use tools::{Tool, need};
