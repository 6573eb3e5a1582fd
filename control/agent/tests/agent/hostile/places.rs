//! Places where a hostile user was first.

use std::os::unix::fs::{PermissionsExt as _, chown};

use svidecar_agent::error::AgentError;
use svidecar_api::transport::{ConnectError, Endpoint, Usual, uds};
use svidecar_workload::{ClientError, dial};

use crate::{
    harness::{soon, write_token},
    hostile::{
        MALLORY, as_mallory, everything_said, open_bed,
        roles::{first_word, role},
        root,
    },
};

/// Mallory serves an administration socket, and the Workload API where everybody can be first; and hears nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administration_socket_of_anothers_is_neither_told_nor_believed_anything() {
    if !root("an_administration_socket_of_anothers_is_neither_told_nor_believed_anything") {
        return;
    }
    let bed = open_bed();
    let dir = bed.dir.path().join("mallorys");
    std::fs::create_dir(&dir).unwrap();
    chown(&dir, Some(MALLORY), Some(MALLORY)).unwrap();
    let socket = dir.join("admin.sock");
    let mut server = as_mallory(role("serve", &socket.display().to_string()));
    let server = soon(tokio::task::spawn_blocking(move || {
        assert_eq!(first_word(&mut server), "listening");
        server
    }))
    .await
    .unwrap();
    let refused = soon(uds::connect_to_ours(&socket)).await.err().unwrap();
    assert!(matches!(refused, ConnectError::Foreign { owner: MALLORY, expected: 0, .. }), "{refused}");
    let refused =
        soon(dial(&Endpoint::Usual(Usual::new(vec!["/nonexistent".into()], socket)))).await.err().unwrap();
    assert!(
        matches!(refused, ClientError::Connect(ConnectError::Foreign { owner: MALLORY, .. })),
        "{refused}"
    );
    assert_eq!(everything_said(server).await, ["heard 0 bytes"]);
    // Root's own is believed.
    let agent = bed.agent().await;
    soon(agent.admin().await.get_status(svidecar_api::svidecar::agent::v1::GetStatusRequest {}))
        .await
        .unwrap();
    agent.stop().await;
}

/// Each is refused with what mends it, and mended by that.
#[tokio::test]
async fn data_and_tokens_that_others_own_or_read_are_refused_with_what_mends_them() {
    let bed = open_bed();
    let token = bed.dir.path().join("token");
    write_token(&token, format!("{}.{}", crate::server::TOKEN, bed.world.pin()));
    let mut settings = bed.settings();
    settings.join_token = None;
    settings.join_token_file = Some(token.clone());
    let agent = bed.start(settings.clone());
    agent.ready().await;
    agent.stop().await;

    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let data = settings.data_dir.clone();
    for (path, wrong, right, mend) in [
        (data.join("agent.json"), 0o644, 0o600, "chmod 600 "),
        (data.join("workloads.json"), 0o604, 0o600, "chmod 600 "),
        (data.clone(), 0o777, 0o700, "chmod go-w "),
    ] {
        mode(&path, wrong);
        let error = bed.start(settings.clone()).ended().await;
        assert!(matches!(error, AgentError::Exposed(_)), "{error}");
        assert!(error.to_string().contains(&format!("{mend}{}", path.display())), "{error}");
        mode(&path, right);
    }
    mode(&token, 0o644);
    let mut first = settings.clone();
    first.data_dir = bed.dir.path().join("first");
    let error = bed.start(first).ended().await;
    assert!(error.to_string().contains("chmod o-rwx "), "{error}");
    mode(&token, 0o600);
    if root("another user's agent.json") {
        chown(data.join("agent.json"), Some(MALLORY), None).unwrap();
        let error = bed.start(settings.clone()).ended().await;
        assert!(error.to_string().contains("chown 0 "), "{error}");
        chown(data.join("agent.json"), Some(0), None).unwrap();
    }
    let agent = bed.start(settings);
    agent.ready().await;
    agent.stop().await;
}
