//! The main stack with workloads told by the labels of their containers, all of them as one and the same user.

use svidecar_containers::{Compose, Project, compose_dir};

#[tokio::test]
async fn labels_tell_containers_apart() {
    let test = "labels_tell_containers_apart";
    let files = ["compose.yaml", "labels.yaml"];
    let Some(mut project) = Project::new(test, Compose::V2, &files).await.unwrap() else { return };
    project.up().await.unwrap();
    assert_eq!(project.exit_code("demo-client").await.unwrap(), 0);
    let client = project.log("demo-client").await.unwrap();
    assert!(client.contains(r#""caller":"spiffe://demo.org/robot/unit-7""#), "{client}");
    let bootstrap = project.log("bootstrap").await.unwrap();
    let created =
        "creating entry for spiffe://demo.org/robot/unit-7 (docker:label:org.svidecar.workload:demo-client)";
    assert!(bootstrap.contains(created), "{bootstrap}");

    // The same image, user and configuration, but another label: nobody.
    let volumes = [
        format!("{}_workload-api:/run/svidecar:ro", project.name()),
        format!("{}:/etc/svidecar:ro", compose_dir().join("config").display()),
    ];
    let image = project.engine().image("proxy");
    let mut args = vec!["--label", "org.svidecar.workload=someone-else", "--env"];
    args.extend(["SVIDECAR_PROXY_CONFIG=/etc/svidecar/demo-client.yaml", "--volume", &volumes[0]]);
    args.extend(["--volume", &volumes[1], &image]);
    let stranger = project.guest("stranger", &args).await.unwrap();
    let agent = project.follow("agent").await.unwrap();
    let refused = agent.log.wait_for(&["no identity issued"]).await;
    let missing = "missing docker:label:org.svidecar.workload:demo-";
    assert!(refused.as_ref().is_ok_and(|line| line.contains(missing)), "{refused:?}\n{}", agent.log.text());
    let pid = project.docker(&["inspect", "--format", "{{.State.Pid}}", &stranger]).text().await.unwrap();
    let why = project.exec("agent", &["/svidecar-agent", "why", "--pid", pid.trim()]).await;
    let why = format!("{why:?}");
    assert!(why.contains("docker:label:org.svidecar.workload:someone-else"), "{why}");
}
