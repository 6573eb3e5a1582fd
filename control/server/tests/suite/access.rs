//! Every method of every service, called by every kind of caller over real connections.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
};

use prost::Message as _;
use svidecar_api::{
    spire::api::types::Entry,
    status::{Reason, permission_denied_reason},
};
use tonic::{Code, Request, Status, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

use crate::support::{TestServer, entry};

/// Calls a method with an empty message and reads the first answer, whatever the shapes are.
async fn call(channel: &Channel, path: &str) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let codec: ProstCodec<(), ()> = ProstCodec::default();
    let answers = grpc.server_streaming(Request::new(()), path.parse().unwrap(), codec).await?;
    answers.into_inner().message().await.map(|_| ())
}

fn methods() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(svidecar_api::SERVER_FILE_DESCRIPTOR_SET).unwrap();
    let mut methods = vec!["/grpc.health.v1.Health/Check".to_owned()];
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                methods.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    methods
}

/// SPIRE's table: who is let through to each method. A letter each: Anonymous, loCal, aDmin, aGent, dOwnstream,
/// plain Workload.
fn expected(method: &str) -> &'static str {
    match method.rsplit('/').next().unwrap() {
        "AttestAgent" | "GetBundle" => "ACDGOW",
        "RenewAgent"
        | "PostStatus"
        | "GetAuthorizedEntries"
        | "SyncAuthorizedEntries"
        | "BatchNewX509SVID"
        | "NewJWTSVID"
        | "Watch" => "G",
        "NewDownstreamX509CA" | "PublishJWTAuthority" => "O",
        "GetFederatedBundle" => "CDG",
        "Check" | "CreateBackup" => "C",
        _ => "CD",
    }
}

#[tokio::test]
async fn every_method_lets_through_whom_the_table_names_and_nobody_else() {
    let server = TestServer::start_with(|settings| {
        settings.admin_ids = vec!["spiffe://demo.org/operator".parse().unwrap()];
    })
    .await;
    let agent = server.agent().await;
    let parent = agent.credentials.id.as_str();
    for (id, admin, downstream) in
        [("by-entry", true, false), ("lower-server", false, true), ("shop", false, false)]
    {
        let entry = entry(&format!("spiffe://demo.org/{id}"), parent, 1000);
        server.create_entry(Entry { admin, downstream, ..entry }).await;
    }
    let identity = async |id: &str| {
        let credentials = server.mint(&format!("spiffe://demo.org/{id}")).await;
        server.with(&agent.pin, &credentials).await
    };
    let callers = [
        ('A', server.anonymous(&agent.pin).await),
        ('C', server.local().await),
        ('D', identity("operator").await),
        ('D', identity("by-entry").await),
        ('G', agent.channel(&server).await),
        ('O', identity("lower-server").await),
        ('W', identity("shop").await),
    ];

    let mut wrong = BTreeMap::new();
    for method in methods() {
        for (kind, channel) in &callers {
            let answer = call(channel, &method).await;
            let denied = answer.as_ref().err().is_some_and(|status| {
                status.code() == Code::PermissionDenied
                    && status.message() == format!("authorization denied for method {method}")
            });
            if denied == expected(&method).contains(*kind) {
                wrong.insert((method.clone(), *kind), format!("{answer:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_denied_agent_is_told_why_and_others_are_not() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let path = "/spire.api.server.entry.v1.Entry/GetAuthorizedEntries";
    // A workload's identity where an agent's is asked for: no such agent.
    let workload = server.mint("spiffe://demo.org/shop").await;
    let denied = call(&server.with(&agent.pin, &workload).await, path).await.unwrap_err();
    assert_eq!(permission_denied_reason(&denied), Some(Reason::AgentNotAttested));
    for channel in [server.anonymous(&agent.pin).await, server.local().await] {
        let denied = call(&channel, path).await.unwrap_err();
        assert_eq!((denied.code(), permission_denied_reason(&denied)), (Code::PermissionDenied, None));
    }
}

#[tokio::test]
async fn a_method_that_does_not_exist_is_unimplemented() {
    let server = TestServer::start().await;
    for path in ["/spire.api.server.agent.v1.Agent/Nothing", "/no.such.Service/Method"] {
        assert_eq!(call(&server.local().await, path).await.unwrap_err().code(), Code::Unimplemented);
    }
}

#[tokio::test]
async fn a_certificate_of_a_strange_authority_ends_the_handshake() {
    let (ours, theirs) = (TestServer::start().await, TestServer::start().await);
    let (agent, stranger) = (ours.agent().await, theirs.mint("spiffe://demo.org/operator").await);
    // The handshake of TLS 1.3 is over for the client before the server has looked at its certificate; then
    // the connection breaks, at once or in the first call.
    if let Ok(channel) = ours.try_with(&agent.pin, &stranger).await {
        let mut grpc = Grpc::new(channel);
        if grpc.ready().await.is_ok() {
            let codec: ProstCodec<(), ()> = ProstCodec::default();
            let path = "/spire.api.server.bundle.v1.Bundle/GetBundle".parse().unwrap();
            assert!(grpc.unary(Request::new(()), path, codec).await.is_err());
        }
    }
}

/// Each is refused with what mends it, and mended by that.
#[tokio::test]
async fn data_and_keys_that_others_read_or_change_are_refused_with_what_mends_them() {
    let mut server = TestServer::start().await;
    server.stop().await;
    let data = server.settings.data_dir.clone();
    let keys = fs::read_dir(data.join("keys")).unwrap().map(|file| file.unwrap().path());
    let mut places = vec![(data.clone(), 0o777, 0o700, "chmod go-w ")];
    places.push((data.join("keys"), 0o770, 0o700, "chmod go-w "));
    places.push((data.join("datastore.sqlite3"), 0o640, 0o600, "chmod 600 "));
    places.extend(keys.map(|key| (key, 0o604, 0o600, "chmod 600 ")));
    assert!(places.len() > 4, "{places:?}");
    for (path, wrong, right, mend) in places {
        fs::set_permissions(&path, Permissions::from_mode(wrong)).unwrap();
        let error = server.refused().await;
        assert_eq!(error.code().name(), "file_exposed", "{error}");
        assert!(error.to_string().contains(&format!("`{mend}{}`", path.display())), "{error}");
        fs::set_permissions(&path, Permissions::from_mode(right)).unwrap();
    }
    server.begin().await;
}
