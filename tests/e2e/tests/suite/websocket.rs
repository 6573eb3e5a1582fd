//! WebSocket between a client and an app that others wrote.

use anyhow::Result;
use svidecar_e2e::{Pair, Tool, need};
use svidecar_stack::Launch;

#[tokio::test]
async fn a_websocket_goes_through_both_sidecars() -> Result<()> {
    let Some(python) = need(Tool::WebSockets, "a_websocket_goes_through_both_sidecars")? else {
        return Ok(());
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/websocket.py");
    for protocol in ["http", "tcp"] {
        let pair = Pair::around(&Launch::new(&python).args([script, "server"]), protocol).await?;
        let address = pair.client.outbound()?.to_string();
        let client = Launch::new(&python).args([script, "client", &address]);
        // A TCP workload learns of its peer by other means than a header.
        let client = if protocol == "tcp" { client.arg("stranger") } else { client };
        let said = client.text().await?;
        assert!(said.contains("all is well"), "{said}");
    }
    Ok(())
}
