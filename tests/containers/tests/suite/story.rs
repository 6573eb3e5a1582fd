//! The main stack: one command, the client's request through mutual TLS, and again in every state that a stack gets into.

use anyhow::{Result, ensure};
use svidecar_containers::{Compose, Project};

/// What the client says when all went well.
const SUCCEEDED: &str = "mTLS request succeeded (status 200 OK)";

/// The client's last run, and what the app wrote down about it.
async fn told(project: &Project) -> Result<()> {
    ensure!(project.exit_code("demo-client").await? == 0, "{}", project.logs().await?);
    let client = project.log("demo-client").await?;
    assert!(client.contains(SUCCEEDED), "{client}");
    assert!(client.contains(r#""caller":"spiffe://demo.org/robot/unit-7""#), "{client}");
    let app = project.log("demo-server").await?;
    assert!(app.contains("[ledger] robot_id=unit-7 GET /api/hello"), "{app}");
    // No state of a stack may bring this to anybody.
    let all = project.logs().await?.to_lowercase();
    assert!(!all.contains("token_used") && !all.contains("already used"), "{all}");
    Ok(())
}

async fn story(test: &str, version: Compose) -> Result<()> {
    let Some(project) = Project::new(test, version, &["compose.yaml"]).await? else { return Ok(()) };
    project.up().await?;
    told(&project).await?;
    let bootstrap = project.log("bootstrap").await?;
    for id in ["spiffe://demo.org/workload/demo-server", "spiffe://demo.org/robot/unit-7"] {
        assert!(
            bootstrap.contains(&format!("[bootstrap] creating entry for {id} (unix:uid:")),
            "{bootstrap}"
        );
    }

    // A second time, with everything there.
    project.up().await?;
    told(&project).await?;
    let bootstrap = project.log("bootstrap").await?;
    assert!(bootstrap.contains("[bootstrap] 2 entries are there already"), "{bootstrap}");

    // With the volumes of before.
    project.down(false).await?;
    project.up().await?;
    told(&project).await?;
    let agent = project.log("agent").await?;
    assert!(agent.contains("no attestation is needed"), "{agent}");

    // The agent's data is lost: it joins with the token that was put ready for that.
    project.down(false).await?;
    project.docker(&["volume", "rm", &format!("{}_agent-data", project.name())]).text().await?;
    project.up().await?;
    told(&project).await?;
    let agent = project.log("agent").await?;
    assert!(agent.contains("node attestation succeeded"), "{agent}");

    // Without any volume.
    project.down(true).await?;
    project.nothing_left().await?;
    project.up().await?;
    told(&project).await?;
    project.down(true).await?;
    project.nothing_left().await
}

#[tokio::test]
async fn the_story_with_compose_v2() {
    story("the_story_with_compose_v2", Compose::V2).await.unwrap();
}

#[tokio::test]
async fn the_story_with_docker_compose_1_29() {
    story("the_story_with_docker_compose_1_29", Compose::V1).await.unwrap();
}

/// What is shipped is small, has no shell, and is nobody's root.
#[tokio::test]
async fn the_images_are_small_and_not_root() {
    const LARGEST: u64 = 13 << 20;
    let Some(engine) = svidecar_containers::Engine::need("the_images_are_small_and_not_root").await.unwrap()
    else {
        return;
    };
    for name in ["server", "agent", "proxy", "demo"] {
        let text = engine.docker(&["image", "inspect", &engine.image(name)]).text().await.unwrap();
        let image: serde_json::Value = serde_json::from_str(&text).unwrap();
        let size = image.pointer("/0/Size").and_then(serde_json::Value::as_u64).unwrap();
        println!("{name}: {:.1} MiB", size as f64 / f64::from(1 << 20));
        assert!(size <= LARGEST, "{name} has {size} bytes");
        assert_eq!(image.pointer("/0/Config/User").unwrap(), "65532:65532", "{name}");
        let check = image.pointer("/0/Config/Healthcheck/Test/0");
        assert!(
            name == "demo" || check.is_some_and(|kind| kind == "CMD"),
            "{name} has no health check of its own"
        );
    }
}
