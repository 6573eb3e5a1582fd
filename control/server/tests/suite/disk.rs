//! A server whose disk is full.

use svidecar_api::{
    spire::api::server::{
        agent::v1::{AgentX509svidParams, RenewAgentRequest},
        entry::v1::{BatchCreateEntryRequest, GetAuthorizedEntriesRequest, entry_client::EntryClient},
        svid::v1::{BatchNewX509svidRequest, NewX509svidParams},
    },
    status::{Reason, permission_denied_reason},
};
use svidecar_authority::{
    csr,
    key::{KeyType, PrivateKey},
};
use svidecar_process::testing::SmallDisk;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use tonic::Status;

use crate::support::{Agent, Credentials, TestServer, entry};

/// What `/ready` says: its status line and its body.
async fn ready(server: &TestServer) -> String {
    let mut stream = TcpStream::connect(server.health.unwrap()).await.unwrap();
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Creates entries: what the write-ahead log still takes is kept, and the first that it does not take is refused. How many, and why.
async fn create_until_refused(server: &TestServer, parent: &str) -> (usize, String) {
    let mut admin = EntryClient::new(server.local().await);
    let mut created = 0;
    loop {
        let path = format!("spiffe://demo.org/{}/{created}", "x".repeat(1000));
        let request = BatchCreateEntryRequest { entries: vec![entry(&path, parent, 2)], output_mask: None };
        match admin.batch_create_entry(request).await {
            Err(status) => return (created, status.to_string()),
            Ok(answer) => {
                let status = answer.into_inner().results.remove(0).status.unwrap();
                if status.code != 0 {
                    return (created, status.message);
                }
            }
        }
        created += 1;
    }
}

/// Who was served is served, what cannot be kept is refused and said, and all of it works again when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_a_full_disk_signs_and_serves_what_it_knows() {
    let mut disk = None;
    let server = TestServer::start_with(|settings| {
        disk = SmallDisk::mount(&settings.data_dir, 2 << 20);
        settings.health.listen = "127.0.0.1:0".parse().unwrap();
    })
    .await;
    let Some(disk) = disk else { return };
    let agent = server.agent().await;
    let parent = agent.credentials.id.clone();
    let kept = server.create_entry(entry("spiffe://demo.org/kept", &parent, 1)).await;
    disk.fill().unwrap();

    let (created, refused) = create_until_refused(&server, &parent).await;
    assert!(refused.contains("full"), "{refused}");
    // A look at the clock commits, too.
    server.hands.set(1);
    while !ready(&server).await.contains("\"commit\":{\"ok\":false") {
        tokio::task::yield_now().await;
    }
    let said = ready(&server).await;
    assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("\"ca\":{\"ok\":true"), "{said}");

    let mut client = agent.entries(&server).await;
    let mine = client.get_authorized_entries(GetAuthorizedEntriesRequest::default()).await.unwrap();
    assert_eq!(mine.into_inner().entries.len(), created + 1);
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let params = NewX509svidParams { entry_id: kept.id, csr: csr::create(&key, None, &[]).unwrap() };
    let request = BatchNewX509svidRequest { params: vec![params] };
    let signed = agent.svids(&server).await.batch_new_x509svid(request).await.unwrap().into_inner();
    assert_eq!(signed.results[0].status.as_ref().unwrap().code, 0);

    disk.free().unwrap();
    server.create_entry(entry("spiffe://demo.org/after", &parent, 3)).await;
    server.hands.set(1);
    while !ready(&server).await.contains("\"commit\":{\"ok\":true") {
        tokio::task::yield_now().await;
    }
}

/// The next SVID of an agent, for a new key.
async fn renew(server: &TestServer, agent: &Agent) -> Agent {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let params = AgentX509svidParams { csr: csr::create(&key, None, &[]).unwrap() };
    let request = RenewAgentRequest { params: Some(params) };
    let svid = agent.agents(server).await.renew_agent(request).await.unwrap().into_inner().svid.unwrap();
    Agent { credentials: Credentials::new(&svid, key), pin: agent.pin.clone(), token: agent.token.clone() }
}

async fn call(server: &TestServer, agent: &Agent) -> Result<(), Status> {
    let mut client = agent.entries(server).await;
    client.get_authorized_entries(GetAuthorizedEntriesRequest::default()).await.map(|_| ())
}

/// However long the disk takes nothing, the fleet's own SVIDs go on; what was signed meanwhile is written when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_are_renewed_while_the_disk_is_full_and_known_afterwards() {
    let mut disk = None;
    let mut server =
        TestServer::start_with(|settings| disk = SmallDisk::mount(&settings.data_dir, 2 << 20)).await;
    let Some(disk) = disk else { return };
    let first = server.agent().await;
    // Signed before, and seen when nothing can be written any more.
    let second = renew(&server, &first).await;
    disk.fill().unwrap();
    create_until_refused(&server, &first.credentials.id).await;

    call(&server, &second).await.unwrap();
    let third = renew(&server, &second).await;
    call(&server, &third).await.unwrap();
    let fourth = renew(&server, &third).await;
    call(&server, &fourth).await.unwrap();
    let refused = call(&server, &third).await.unwrap_err();
    assert_eq!(permission_denied_reason(&refused), Some(Reason::AgentNotActive));

    disk.free().unwrap();
    let fifth = renew(&server, &fourth).await;
    server.restart().await;
    call(&server, &fourth).await.unwrap();
    call(&server, &fifth).await.unwrap();
    let refused = call(&server, &fourth).await.unwrap_err();
    assert_eq!(permission_denied_reason(&refused), Some(Reason::AgentNotActive));
}
