//! The server's data is lost, while everybody else keeps theirs.

use svidecar_containers::{Compose, PATIENCE, Project};

/// The token that bootstrap puts ready is of the new server, and the agent finds it there by itself; both sidecars get their
/// new identities as they run.
#[tokio::test]
async fn the_servers_data_may_be_lost() {
    let test = "the_servers_data_may_be_lost";
    let Some(project) = Project::new(test, Compose::V2, &["compose.yaml"]).await.unwrap() else { return };
    project.up().await.unwrap();
    project.compose(&["rm", "--stop", "--force", "server"]).text().await.unwrap();
    project.docker(&["volume", "rm", &format!("{}_server-data", project.name())]).text().await.unwrap();
    project.up().await.unwrap();
    for (service, said) in [
        ("agent", "the agent has joined anew"),
        ("demo-server-sidecar", "Rotated SVID"),
        ("demo-client-sidecar", "Rotated SVID"),
    ] {
        let follows = project.follow(service).await.unwrap();
        follows.log.wait_until(0, PATIENCE, |line| line.contains(said)).await.unwrap();
    }
    let client = project.run_again("demo-client").await.unwrap();
    assert!(client.contains("mTLS request succeeded (status 200 OK)"), "{client}");
}
