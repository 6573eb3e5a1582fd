//! The main stack while parts of it are away: what was allowed goes on, and everything finds together again by itself.

use anyhow::Result;
use svidecar_containers::{Compose, Project};

const SUCCEEDED: &str = "mTLS request succeeded (status 200 OK)";

async fn request(project: &Project) -> Result<()> {
    let client = project.run_again("demo-client").await?;
    assert!(client.contains(SUCCEEDED), "{client}");
    Ok(())
}

/// Every service, one after the other, restarted by its name.
#[tokio::test]
async fn any_service_may_be_restarted() {
    let test = "any_service_may_be_restarted";
    let Some(project) = Project::new(test, Compose::V2, &["compose.yaml"]).await.unwrap() else { return };
    project.up().await.unwrap();
    for service in ["server", "bootstrap", "agent", "demo-client-sidecar", "demo-server-sidecar"] {
        project.compose(&["restart", service]).text().await.unwrap();
        // The client's network is its sidecar's, and new with it.
        project.ready("demo-client-sidecar").await.unwrap();
        project.ready("demo-server-sidecar").await.unwrap();
        request(&project).await.unwrap();
    }
}

/// The app's network namespace goes with its container; the sidecar ends, and Docker starts it in the new one.
#[tokio::test]
async fn a_sidecar_follows_its_app_into_a_new_network() {
    let test = "a_sidecar_follows_its_app_into_a_new_network";
    let Some(project) = Project::new(test, Compose::V2, &["compose.yaml"]).await.unwrap() else { return };
    project.up().await.unwrap();
    let events = project.events("demo-server-sidecar").await.unwrap();
    project.compose(&["restart", "demo-server"]).text().await.unwrap();
    events.log.wait_for(&["die"]).await.unwrap();
    events.log.wait_for(&["start"]).await.unwrap();
    project.ready("demo-server-sidecar").await.unwrap();
    let said = project.log("demo-server-sidecar").await.unwrap();
    assert!(said.contains("network_lost"), "{said}");
    request(&project).await.unwrap();
}

/// The server is killed: what has an identity keeps it, and a new sidecar gets one from what the agent has.
#[tokio::test]
async fn nothing_stops_while_the_server_is_away() {
    let test = "nothing_stops_while_the_server_is_away";
    let Some(project) = Project::new(test, Compose::V2, &["compose.yaml"]).await.unwrap() else { return };
    project.up().await.unwrap();
    project.compose(&["kill", "server"]).text().await.unwrap();
    request(&project).await.unwrap();
    for service in ["agent", "demo-server-sidecar"] {
        project.compose(&["restart", service]).text().await.unwrap();
    }
    project.ready("demo-server-sidecar").await.unwrap();
    request(&project).await.unwrap();

    project.compose(&["start", "server"]).text().await.unwrap();
    let agent = project.follow("agent").await.unwrap();
    agent.log.wait_for(&["in sync with the server"]).await.unwrap();
    request(&project).await.unwrap();
}

/// The network between the two sides is cut, and mended.
#[tokio::test]
async fn a_cut_network_is_a_clear_failure_and_heals() {
    let test = "a_cut_network_is_a_clear_failure_and_heals";
    let Some(project) = Project::new(test, Compose::V2, &["compose.yaml"]).await.unwrap() else { return };
    project.up().await.unwrap();
    let network = format!("{}_default", project.name());
    let client = project.container("demo-client-sidecar").await.unwrap();
    project.docker(&["network", "disconnect", &network, &client]).text().await.unwrap();
    let cut = project.run_again("demo-client").await.unwrap_err().to_string();
    // Without a name server, or by nobody's answer: whatever is noticed first.
    assert!(cut.contains("request failed (status 50"), "{cut}");
    assert!(cut.contains("svidecar: upstream_"), "{cut}");

    project.docker(&["network", "connect", &network, &client]).text().await.unwrap();
    request(&project).await.unwrap();
}

/// Somebody whom the policy does not name is refused, and both sides say why.
#[tokio::test]
async fn the_wrong_identity_is_refused() {
    let test = "the_wrong_identity_is_refused";
    let Some(mut project) = Project::new(test, Compose::V2, &["compose.yaml"]).await.unwrap() else { return };
    project.up().await.unwrap();
    let entry = [
        "/svidecar-server",
        "entry",
        "create",
        "-parentID",
        "spiffe://demo.org/node",
        "-spiffeID",
        "spiffe://demo.org/workload/other",
        "-selector",
        "unix:uid:1003",
    ];
    project.exec("server", &entry).await.unwrap();
    let (network, api) =
        (format!("{}_default", project.name()), format!("{}_workload-api:/run/svidecar:ro", project.name()));
    let config = format!("{}:/etc/svidecar:ro", svidecar_containers::compose_dir().join("config").display());
    let image = project.engine().image("proxy");
    let sidecar = ["--user", "1003", "--network", &network, "--volume", &api, "--volume", &config];
    let sidecar =
        [&sidecar[..], &["--env", "SVIDECAR_PROXY_CONFIG=/etc/svidecar/demo-client.yaml", &image]].concat();
    let other = project.guest("other", &sidecar).await.unwrap();
    project.docker(&["exec", &other, "/svidecar", "wait"]).text().await.unwrap();

    let network = format!("container:{other}");
    let client =
        ["run", "--rm", "--network", &network, &project.engine().image("demo"), "client", "127.0.0.1:9000"];
    let refused = project.docker(&client).output().await.unwrap();
    let said = String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("request failed (status 403 Forbidden)"), "{said}");
    let sidecar = project.follow("demo-server-sidecar").await.unwrap();
    let denied = [r#""peer":"spiffe://demo.org/workload/other""#, r#""decision":"deny""#];
    sidecar.log.wait_for(&denied).await.unwrap();
    assert!(!project.log("demo-server").await.unwrap().contains("other"), "the app has not seen it");
}
