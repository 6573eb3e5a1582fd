//! X.509-SVIDs and bundles through the Workload API.

use std::{path::Path, sync::atomic::Ordering};

use svidecar_api::{
    WAIT_FOR_AGENT, WAIT_FOR_ENTRY, WAIT_HEADER,
    spire::api::types,
    svidecar::agent::v1::GetStatusRequest,
    workload::{X509BundlesRequest, X509svidRequest},
};
use svidecar_authority::{
    bundle::{Bundle, BundleSet},
    x509::verify_peer,
};
use tonic::{Code, Request, metadata::MetadataValue};

use crate::{
    harness::{Bed, ids, my_uid, next, request, soon},
    server::{new_ca, now},
};

/// H13, H14, H16, H18: the first message is there at once and is whole; each later one is whole too.
#[tokio::test]
async fn an_entry_reaches_an_open_stream() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/first", &[&my_uid()]);
    let agent = bed.agent().await;
    let mut stream = agent.fetch().await.unwrap();
    let message = next(&mut stream).await;
    assert_eq!(ids(&message), ["spiffe://demo.org/first"]);
    let svid = &message.svids[0];
    let chain = Bundle::certificates_from_der(&svid.x509_svid).unwrap();
    let set = BundleSet::of(bed.world.bundle.lock().unwrap().clone());
    assert_eq!(verify_peer(&chain, &set, now()).unwrap().id.as_str(), "spiffe://demo.org/first");

    bed.world.create_entry("e2", "/second", &[&my_uid()]);
    let message = next(&mut stream).await;
    // H24: the identity that was the default stays it.
    assert_eq!(ids(&message), ["spiffe://demo.org/first", "spiffe://demo.org/second"]);
    // What did not change is the same bytes: no certificate was signed anew.
    assert_eq!(message.svids[0], *svid);
    agent.stop().await;
}

fn patient<T>(message: T, wait_for: &'static str) -> Request<T> {
    let mut request = request(message);
    request.metadata_mut().insert(WAIT_HEADER, MetadataValue::from_static(wait_for));
    request
}

/// A workload that is there before its entry asks to wait for it, and has its identity as soon as there is one. One that
/// does not ask is denied, and one that had an identity learns that it was taken back.
#[tokio::test]
async fn a_stream_waits_for_the_first_entry_if_it_asks_to() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/others", &["unix:uid:4000000"]);
    let agent = bed.agent().await;
    assert_eq!(agent.fetch().await.unwrap_err().code(), Code::PermissionDenied);
    let mut client = agent.client().await;
    let mut svids =
        soon(client.fetch_x509svid(patient(X509svidRequest {}, WAIT_FOR_ENTRY))).await.unwrap().into_inner();
    let bundles = soon(client.fetch_x509_bundles(patient(X509BundlesRequest {}, WAIT_FOR_ENTRY))).await;
    let mut bundles = bundles.unwrap().into_inner();
    bed.world.create_entry("e2", "/mine", &[&my_uid()]);
    assert_eq!(ids(&next(&mut svids).await), ["spiffe://demo.org/mine"]);
    assert_eq!(soon(bundles.message()).await.unwrap().unwrap().bundles.len(), 1);
    bed.world.delete_entry("e2");
    assert_eq!(soon(svids.message()).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(soon(bundles.message()).await.unwrap_err().code(), Code::PermissionDenied);
    agent.stop().await;
}

/// What the server does not push is found sooner by asking again.
#[tokio::test]
async fn no_stream_waits_for_what_is_not_pushed() {
    let bed = Bed::new(false);
    let agent = bed.agent().await;
    let mut client = agent.client().await;
    let asked = soon(client.fetch_x509svid(patient(X509svidRequest {}, WAIT_FOR_ENTRY))).await;
    assert_eq!(asked.unwrap_err().code(), Code::PermissionDenied);
    agent.stop().await;
}

/// Whoever asks an agent that has only begun has its identity as soon as the agent has its own.
#[tokio::test]
async fn a_stream_waits_for_an_agent_that_begins_if_it_asks_to() {
    let mut bed = Bed::new(true);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    bed.stop_server().await;
    let agent = bed.start(bed.settings());
    assert_eq!(agent.fetch().await.unwrap_err().code(), Code::Unavailable);
    let mut client = agent.client().await;
    let asked = tokio::spawn(async move {
        let asked = client.fetch_x509svid(patient(X509svidRequest {}, WAIT_FOR_AGENT)).await;
        next(&mut asked.unwrap().into_inner()).await
    });
    bed.start_server();
    assert_eq!(ids(&soon(asked).await.unwrap()), ["spiffe://demo.org/mine"]);
    agent.stop().await;
}

/// H13, H14: no message without a change, and entries of others are not a change.
#[tokio::test]
async fn other_workloads_entries_are_not_told() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let agent = bed.agent().await;
    let mut stream = agent.fetch().await.unwrap();
    next(&mut stream).await;
    bed.world.create_entry("e2", "/others", &["unix:uid:4000000"]);
    bed.world.changed();
    // The next message that arrives is the one after this change, with nothing in between.
    bed.world.create_entry("e3", "/mine-too", &[&my_uid()]);
    assert_eq!(ids(&next(&mut stream).await), ["spiffe://demo.org/mine", "spiffe://demo.org/mine-too"]);
    agent.stop().await;
}

/// H8: no entry, no identity; when the last one goes, so does the stream.
#[tokio::test]
async fn without_an_entry_there_is_no_identity() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/others", &["unix:uid:4000000"]);
    let agent = bed.agent().await;
    let denied = agent.fetch().await.unwrap_err();
    assert_eq!((denied.code(), denied.message()), (Code::PermissionDenied, "no identity issued"));

    bed.world.create_entry("e2", "/mine", &[&my_uid()]);
    let mut stream = agent.fetch().await.unwrap();
    next(&mut stream).await;
    bed.world.delete_entry("e2");
    assert_eq!(soon(stream.message()).await.unwrap_err().code(), Code::PermissionDenied);
    agent.stop().await;
}

/// A server that cannot push is asked on a miss, and its pages are followed.
#[tokio::test]
async fn a_miss_asks_the_server_before_it_is_an_answer() {
    let bed = Bed::new(false);
    let agent = bed.agent().await;
    for number in 0..7 {
        bed.world.create_entry(&format!("e{number}"), &format!("/x{number}"), &[&my_uid()]);
    }
    let before = bed.world.syncs.load(Ordering::Relaxed);
    let mut stream = agent.fetch().await.unwrap();
    assert_eq!(next(&mut stream).await.svids.len(), 7);
    assert!(bed.world.syncs.load(Ordering::Relaxed) > before);
    agent.stop().await;
}

/// H4, over the wire and for every method.
#[tokio::test]
async fn a_request_without_the_header_is_refused() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let agent = bed.agent().await;
    let mut client = agent.client().await;
    let refused = client.fetch_x509svid(Request::new(X509svidRequest {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = client.fetch_x509_bundles(Request::new(X509BundlesRequest {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    agent.stop().await;
}

/// H12: calls of the WIT profile are not implemented.
#[tokio::test]
async fn wit_calls_are_unimplemented() {
    let bed = Bed::new(true);
    let agent = bed.agent().await;
    for method in ["/SpiffeWorkloadAPI/FetchWITSVID", "/SpiffeWorkloadAPI/FetchWITBundles"] {
        let mut client = tonic::client::Grpc::new(agent.channel().await);
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<X509svidRequest, X509svidRequest>::default();
        let path = http::uri::PathAndQuery::from_static(method);
        let answer = client.unary(request(X509svidRequest {}), path, codec).await;
        assert_eq!(answer.unwrap_err().code(), Code::Unimplemented, "{method}");
    }
    agent.stop().await;
}

/// H9, and H10, H11: both profiles are there, and nothing was added to them.
#[tokio::test]
async fn reflection_names_the_services() {
    use prost::Message as _;
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let bed = Bed::new(true);
    let agent = bed.agent().await;
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(agent.channel().await);
    let mut answers =
        client.server_reflection_info(futures_util::stream::iter([list])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(services) = answer else { panic!() };
    let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    for name in ["SpiffeWorkloadAPI", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    let set = prost_types::FileDescriptorSet::decode(svidecar_api::workload::FILE_DESCRIPTOR_SET).unwrap();
    let service =
        set.file.iter().flat_map(|file| &file.service).find(|s| s.name() == "SpiffeWorkloadAPI").unwrap();
    let methods: Vec<_> = service.method.iter().map(|method| method.name()).collect();
    let standard =
        ["FetchX509SVID", "FetchX509Bundles", "FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID"];
    assert_eq!(methods, standard);
    agent.stop().await;
}

/// H19, H23: bundles for those who have an identity, the own trust domain and those they federate with.
#[tokio::test]
async fn bundles_are_for_those_who_are_entitled() {
    let bed = Bed::new(true);
    let partner = new_ca("partner.org");
    let mut bundle = Bundle::empty(partner.trust_domain().clone());
    bundle.x509_authorities.push(partner.certificate().clone());
    bed.world.federated.lock().unwrap().insert("partner.org".into(), bundle);
    let agent = bed.agent().await;
    let mut client = agent.client().await;
    let denied = client.fetch_x509_bundles(request(X509BundlesRequest {})).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);

    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let entry = bed.world.entries.lock().unwrap()["e1"].clone();
    let mut stream = client.fetch_x509_bundles(request(X509BundlesRequest {})).await.unwrap().into_inner();
    let message = soon(stream.message()).await.unwrap().unwrap();
    assert_eq!(message.bundles.keys().collect::<Vec<_>>(), ["spiffe://demo.org"]);
    let federates_with = vec!["partner.org".into()];
    bed.world.put_entry(types::Entry { federates_with, revision_number: 1, ..entry });
    let message = soon(stream.message()).await.unwrap().unwrap();
    assert_eq!(message.bundles["spiffe://partner.org"], partner.certificate().as_ref());
    agent.stop().await;
}

/// H3: loopback TCP by option; the caller is found by its socket.
#[tokio::test]
async fn loopback_tcp_attests_its_callers() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut settings = bed.settings();
    settings.tcp_listen = format!("127.0.0.1:{port}").parse().unwrap();
    let agent = bed.start(settings);
    agent.ready().await;
    let channel = tonic::transport::Channel::from_shared(format!("http://127.0.0.1:{port}"));
    let mut client = crate::harness::Client::new(channel.unwrap().connect().await.unwrap());
    let mut stream = client.fetch_x509svid(request(X509svidRequest {})).await.unwrap().into_inner();
    assert_eq!(ids(&next(&mut stream).await), ["spiffe://demo.org/mine"]);
    agent.stop().await;
}

/// H1: who does not speak gRPC gets no answer of another protocol.
#[tokio::test]
async fn the_socket_speaks_grpc_only() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let bed = Bed::new(true);
    let agent = bed.agent().await;
    let mut stream = tokio::net::UnixStream::connect(bed.settings().socket_path).await.unwrap();
    let request =
        b"GET / HTTP/1.1\r\nhost: localhost\r\nworkload.spiffe.io: true\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // Whether it ends in order or by a reset does not matter.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP/1"), "{}", String::from_utf8_lossy(&answer));
    agent.stop().await;
}

/// H2, H5, H6: a Unix socket, no TLS, nothing asked of the workload, and open to everyone on the node.
#[tokio::test]
async fn the_socket_is_open_to_every_local_user() {
    use std::os::unix::fs::PermissionsExt as _;
    let bed = Bed::new(true);
    let agent = bed.agent().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&bed.settings().socket_path), 0o777);
    assert_eq!(mode(&bed.settings().admin_socket()), 0o600);
    agent.stop().await;
}

/// The server compares what it pushed with what there is: of an entry that was made and deleted in between, which the agent
/// knows because it asked, it would never speak.
#[tokio::test]
async fn an_entry_that_was_looked_up_and_deleted_before_it_was_pushed_does_not_live_on() {
    let bed = Bed::new(true);
    bed.world.create_entry("e0", "/other", &["unix:uid:4294967294"]);
    let agent = bed.agent().await;
    // The stream has said what there is.
    soon(async {
        while agent.admin().await.get_status(GetStatusRequest {}).await.unwrap().into_inner().entries == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    bed.world.held.store(true, Ordering::Relaxed);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let mut stream = agent.fetch().await.unwrap();
    assert_eq!(ids(&next(&mut stream).await), ["spiffe://demo.org/mine"]);
    bed.world.delete_entry("e1");
    bed.world.held.store(false, Ordering::Relaxed);
    bed.world.changed();
    let refused = soon(stream.message()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    agent.stop().await;
}
