//! Who we are, as the sidecar beside us says in plain HTTP and JSON. Asked only where `svidecar run -- APP` has told us
//! its address.

use std::net::SocketAddr;

use anyhow::Result;
use serde_json::Value;
use svidecar_stack::http;

/// Reads what `svidecar run -- APP` puts into SVIDECAR_ADMIN.
///
/// # Errors
/// When it is something else.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let address = text.strip_prefix("http://").and_then(|address| address.parse().ok());
    address.ok_or_else(|| format!("`{text}` is not http://IP:PORT"))
}

/// What the sidecar says.
///
/// # Errors
/// When it does not answer.
pub async fn ask(sidecar: SocketAddr) -> Result<Value> {
    http::get(sidecar, "/spiffe/status", &[]).await?.json()
}

/// Says who we are.
///
/// # Errors
/// As [`ask`].
pub async fn introduce(sidecar: SocketAddr) -> Result<()> {
    let status = ask(sidecar).await?;
    let id = status.get("spiffe_id").and_then(Value::as_str).unwrap_or("nobody yet");
    println!("[app] I am {id}, says the sidecar at http://{sidecar}");
    Ok(())
}
