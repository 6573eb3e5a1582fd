//! The examples over the main stack: apps that others wrote, unmodified, behind sidecars; and a client on the host.

use std::path::Path;

use anyhow::Result;
use svidecar_containers::{Compose, Project, compose_dir};
use svidecar_stack::Launch;

const NGINX: [&str; 2] = ["compose.yaml", "examples/nginx/compose.yaml"];
const POSTGRES: [&str; 2] = ["compose.yaml", "examples/postgres/compose.yaml"];
const HOST: [&str; 2] = ["compose.yaml", "examples/host/compose.yaml"];

/// A user whom the stack gives `spiffe://demo.org/workload/other`, whom no policy names.
const OTHER: &str = "1099";

/// An example with the images of apps that others wrote.
async fn example(test: &str, files: &[&str]) -> Result<Option<(Project, String, String)>> {
    let Some(project) = Project::new(test, Compose::V2, files).await? else { return Ok(None) };
    let Some((nginx, postgres)) = project.engine().example_images(test).await? else { return Ok(None) };
    let project = project.env("NGINX_IMAGE", &nginx).env("POSTGRES_IMAGE", &postgres);
    Ok(Some((project, nginx, postgres)))
}

/// Starts a service and what it depends on.
async fn up(project: &Project, service: &str) -> Result<()> {
    let Err(error) = project.compose(&["up", "--detach", service]).text().await else { return Ok(()) };
    anyhow::bail!("{error:#}\n{}", project.logs().await?)
}

async fn entry(project: &Project, id: &str, uid: &str, more: &[&str]) -> Result<String> {
    let selector = format!("unix:uid:{uid}");
    let entry =
        ["/svidecar-server", "entry", "create", "-parentID", "spiffe://demo.org/node", "-spiffeID", id];
    project.exec("server", &[&entry[..], &["-selector", &selector], more].concat()).await
}

/// The sidecar of somebody else, with the settings of the example's client.
async fn other(project: &mut Project, folder: &str, config: &str) -> Result<String> {
    entry(project, "spiffe://demo.org/workload/other", OTHER, &[]).await?;
    let network = format!("{}_default", project.name());
    let api = format!("{}_workload-api:/run/svidecar:ro", project.name());
    let settings = format!("{}:/etc/svidecar:ro", compose_dir().join(folder).display());
    let config = format!("SVIDECAR_PROXY_CONFIG=/etc/svidecar/{config}");
    let image = project.engine().image("proxy");
    let run = ["--user", OTHER, "--network", &network, "--volume", &api, "--volume", &settings];
    let other = project.guest("other", &[&run[..], &["--env", &config, &image]].concat()).await?;
    project.docker(&["exec", &other, "/svidecar", "wait"]).text().await?;
    Ok(other)
}

/// A command in the network of a container: what it said on both streams, and whether it succeeded.
async fn beside(project: &Project, container: &str, command: &[&str]) -> Result<(bool, String)> {
    let network = format!("container:{container}");
    let output = project.docker(&["run", "--rm", "--network", &network]).args(command).output().await?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// Makes a folder the agent's. Who is not root may do so with the engine, as root there, and an image that has `chown`.
async fn give_to_agent(project: &Project, dir: &Path, test: &str) -> Result<bool> {
    match std::os::unix::fs::chown(dir, Some(65532), Some(65532)) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
        done => return Ok(done.map(|()| true)?),
    }
    let Some((image, _)) = project.engine().example_images(test).await? else { return Ok(false) };
    let mount = format!("{}:/mnt", dir.display());
    project
        .docker(&["run", "--rm", "--volume", &mount, &image, "chown", "65532:65532", "/mnt"])
        .text()
        .await?;
    Ok(true)
}

#[tokio::test]
async fn nginx_behind_a_sidecar() {
    let Some((mut project, nginx, _)) = example("nginx_behind_a_sidecar", &NGINX).await.unwrap() else {
        return;
    };
    up(&project, "nginx-client").await.unwrap();
    assert_eq!(project.exit_code("nginx-client").await.unwrap(), 0);
    let said = project.log("nginx-client").await.unwrap();
    assert!(said.contains("you are spiffe://demo.org/workload/nginx-client"), "{said}");

    let client = project.container("nginx-client-sidecar").await.unwrap();
    let get = |path: &str| format!("http://127.0.0.1:9000{path}");
    let (done, page) = beside(&project, &client, &[&nginx, "wget", "-qO-", &get("/")]).await.unwrap();
    assert!(done && page.contains("Welcome to nginx!"), "{page}");
    let (done, page) =
        beside(&project, &client, &[&nginx, "wget", "-qO-", &get("/admin/users")]).await.unwrap();
    assert!(!done && page.contains("403 Forbidden"), "{page}");

    let other = other(&mut project, "examples/nginx", "client.yaml").await.unwrap();
    let (done, page) = beside(&project, &other, &[&nginx, "wget", "-qO-", &get("/")]).await.unwrap();
    assert!(!done && page.contains("403 Forbidden"), "{page}");
    let ours = project.follow("nginx-sidecar").await.unwrap();
    ours.log.wait_for(&[r#""rule":"nobody-administers""#]).await.unwrap();
    ours.log.wait_for(&[r#""peer":"spiffe://demo.org/workload/other""#]).await.unwrap();
    assert!(!project.log("nginx").await.unwrap().contains("/admin"), "nginx has not seen it");
}

/// An open session outlives the SVIDs that it began with; somebody else gets none, and both sides say why.
#[tokio::test]
async fn postgresql_behind_a_sidecar() {
    let test = "postgresql_behind_a_sidecar";
    let Some((mut project, _, postgres)) = example(test, &POSTGRES).await.unwrap() else { return };
    up(&project, "psql").await.unwrap();
    assert_eq!(project.exit_code("psql").await.unwrap(), 0);
    let said = project.log("psql").await.unwrap();
    assert!(said.contains("hello from PostgreSQL"), "{said}");

    // SVIDs of 10 s, and connections of the sidecars that begin with those.
    for (id, uid) in [("postgres", "1021"), ("reports", "1022")] {
        let id = format!("spiffe://demo.org/workload/{id}");
        let shown =
            project.exec("server", &["/svidecar-server", "entry", "show", "-spiffeID", &id]).await.unwrap();
        let line = shown.lines().find(|line| line.starts_with("Entry ID")).unwrap();
        let entry = line.rsplit(' ').next().unwrap();
        let update = ["/svidecar-server", "entry", "update", "-entryID", entry, "-spiffeID", &id];
        let selector = format!("unix:uid:{uid}");
        let update = [
            &update[..],
            &["-parentID", "spiffe://demo.org/node", "-selector", &selector, "-x509SVIDTTL", "10"],
        ];
        project.exec("server", &update.concat()).await.unwrap();
    }
    project.compose(&["restart", "postgres-sidecar", "psql-sidecar"]).text().await.unwrap();
    for sidecar in ["postgres-sidecar", "psql-sidecar"] {
        project.ready(sidecar).await.unwrap();
    }

    // A session waits for a lock until SVIDs have been renewed three times, so that those which it began with have ended.
    let sql = |sql: &str| {
        let run =
            ["psql", "--username=postgres", "--host=127.0.0.1", "--tuples-only", "--no-align", "--command"];
        [&run[..], &[sql]].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let database = project.container("postgres").await.unwrap();
    let at_database = |text: &str| project.docker(&["exec", &database]).args(sql(text));
    let until = |condition: &str| {
        format!(
            "do $$ begin while not exists (select from pg_locks where locktype = 'advisory' and {condition}) loop perform pg_sleep(0.05); end loop; end $$"
        )
    };
    let _holder = at_database("select pg_advisory_lock(1), pg_sleep(3600)").start("holder").unwrap();
    at_database(&until("granted")).text().await.unwrap();
    let sidecar = format!("container:{}", project.container("psql-sidecar").await.unwrap());
    let session = format!("{}-session", project.name());
    let run = ["run", "--rm", "--name", &session, "--network", &sidecar, "--entrypoint", "psql", &postgres];
    let run =
        [&run[..], &["--username=postgres", "--host=127.0.0.1", "--tuples-only", "--no-align"]].concat();
    let run = [
        &run[..],
        &["--command", "select 'pid ' || pg_backend_pid()", "--command", "select pg_advisory_lock(1)"],
    ];
    let run = [&run.concat()[..], &["--command", "select 'pid ' || pg_backend_pid()"]].concat();
    let mut open = project.docker(&run).start("session").unwrap();
    at_database(&until("not granted")).text().await.unwrap();
    for sidecar in ["postgres-sidecar", "psql-sidecar"] {
        let container = project.container(sidecar).await.unwrap();
        let from_now =
            project.docker(&["logs", "--follow", "--tail", "0", &container]).start(sidecar).unwrap();
        let mut position = 0;
        for _ in 0..3 {
            from_now.log.wait_from(position, &["Rotated SVID"]).await.unwrap();
            position = from_now.log.position();
        }
    }
    let release = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted";
    at_database(release).text().await.unwrap();
    assert!(open.wait().await.unwrap().success(), "{}", open.log.text());
    let pids = open.log.lines_with("pid ");
    assert!(pids.len() == 2 && pids.first() == pids.last(), "{}", open.log.text());

    let other = other(&mut project, "examples/postgres", "psql.yaml").await.unwrap();
    let command =
        ["--entrypoint", "psql", &postgres, "--username=postgres", "--host=127.0.0.1", "--command=select 1"];
    let (done, said) = beside(&project, &other, &command).await.unwrap();
    assert!(!done && said.contains("server closed the connection unexpectedly"), "{said}");
    // Lines of the access log are written a moment after what they tell.
    let theirs = project.docker(&["logs", "--follow", &other]).start("other").unwrap();
    theirs.log.wait_for(&[r#""code":"tunnel_refused""#, "403"]).await.unwrap();
    let ours = project.follow("postgres-sidecar").await.unwrap();
    ours.log
        .wait_for(&[r#""peer":"spiffe://demo.org/workload/other""#, r#""code":"denied_by_rule""#])
        .await
        .unwrap();
}

/// The sidecar is a process of the host, the binary of the image; its agent and the service are in the stack.
#[tokio::test]
async fn a_client_on_the_host() {
    let test = "a_client_on_the_host";
    let Some(project) = Project::new(test, Compose::V2, &HOST).await.unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let api = dir.path().join("api");
    std::fs::create_dir(&api).unwrap();
    if !give_to_agent(&project, &api, test).await.unwrap() {
        return;
    }
    let ports = [svidecar_stack::ports::free().unwrap(), svidecar_stack::ports::free().unwrap()];
    let project = project
        .env("SVIDECAR_RUN", &api.display().to_string())
        .env("SVIDECAR_PORT", &ports[0].port().to_string());
    up(&project, "demo-server-sidecar").await.unwrap();
    let uid = nix::unistd::getuid().to_string();
    entry(&project, "spiffe://demo.org/robot/host-1", &uid, &[]).await.unwrap();

    let copy = format!("{}-copy", project.name());
    project.docker(&["create", "--name", &copy, &project.engine().image("proxy")]).text().await.unwrap();
    let svidecar = dir.path().join("svidecar");
    let from = format!("{copy}:/svidecar");
    let copied = project.docker(&["cp", &from, svidecar.to_str().unwrap()]).text().await;
    project.docker(&["rm", &copy]).text().await.unwrap();
    copied.unwrap();

    let config = std::fs::read_to_string(compose_dir().join("examples/host/svidecar.yaml")).unwrap();
    let config = config
        .replace("/run/svidecar", api.to_str().unwrap())
        .replace("127.0.0.1:9000", &ports[1].to_string())
        .replace("127.0.0.1:8443", &ports[0].to_string());
    std::fs::write(dir.path().join("svidecar.yaml"), config).unwrap();
    let mut sidecar = Launch::new(&svidecar)
        .args(["run", "--admin-listen", "off", "--config"])
        .arg(dir.path().join("svidecar.yaml"))
        .start("svidecar")
        .unwrap();
    sidecar.log.wait_for(&["The proxy is ready"]).await.unwrap();
    let answer = svidecar_stack::http::get(ports[1], "/api/hello", &[]).await.unwrap();
    assert!(answer.text().contains(r#""caller":"spiffe://demo.org/robot/host-1""#), "{}", answer.text());
    assert!(sidecar.stop().await.unwrap().success());
}
