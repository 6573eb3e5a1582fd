//! Joining by token, renewing, banning: what happens to an agent between its first contact and its end.

use std::time::Duration;

use svidecar_api::{
    spire::api::{
        server::{
            agent::v1::{
                AgentX509svidParams, BanAgentRequest, CreateJoinTokenRequest, DeleteAgentRequest,
                GetAgentRequest, ListAgentsRequest, PostStatusRequest, RenewAgentRequest,
                agent_client::AgentClient,
            },
            entry::v1::{GetAuthorizedEntriesRequest, entry_client::EntryClient},
        },
        types,
    },
    status::{Reason, permission_denied_reason},
    svidecar::server::v1::{
        CreateJoinTokenRequest as OwnCreateJoinTokenRequest, DeleteJoinTokenRequest, ListJoinTokensRequest,
        join_tokens_client::JoinTokensClient,
    },
};
use svidecar_authority::{
    csr,
    key::{KeyType, PrivateKey},
};
use tonic::{Code, Status};

use crate::support::{Agent, Credentials, TestServer, attest, entry, id_field};

const EVICTED: &str = "the agent of this join token was evicted or banned at ";
const SPENT: &str = "failed to attest: join token does not exist or has already been used";

fn new_key() -> PrivateKey {
    PrivateKey::generate(KeyType::EcP256).unwrap()
}

/// One call that only an active agent may make.
async fn call_as_agent(server: &TestServer, pin: &str, credentials: &Credentials) -> Result<usize, Status> {
    let mut client = EntryClient::new(server.with(pin, credentials).await);
    let answer = client.get_authorized_entries(GetAuthorizedEntriesRequest::default()).await?;
    Ok(answer.into_inner().entries.len())
}

async fn get(server: &TestServer, id: &str) -> types::Agent {
    let request = GetAgentRequest { id: Some(id_field(id)), output_mask: None };
    AgentClient::new(server.local().await).get_agent(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_token_lets_one_agent_join_and_names_it() {
    let server = TestServer::start().await;
    let (token, pin) = server.token(Some("spiffe://demo.org/node")).await;
    let bare = token.split_once('.').unwrap().0;
    let key = new_key();
    let svid = attest(server.anonymous(&pin).await, &token, &key).await.unwrap();
    let credentials = Credentials::new(&svid, key);
    assert_eq!(credentials.id, format!("spiffe://demo.org/spire/agent/join_token/{bare}"));

    // The alias entry that the token asked for is there, and what is below it is the agent's.
    server.create_entry(entry("spiffe://demo.org/shop", "spiffe://demo.org/node", 1000)).await;
    assert_eq!(call_as_agent(&server, &pin, &credentials).await.unwrap(), 2);

    let agent = get(&server, &credentials.id).await;
    assert_eq!(
        (agent.attestation_type.as_str(), agent.banned, agent.can_reattest),
        ("join_token", false, false)
    );
    assert_eq!(agent.x509svid_expires_at, svid.expires_at);
}

#[tokio::test]
async fn a_wrong_pin_meets_no_server() {
    let server = TestServer::start().await;
    let stranger = server.mint("spiffe://demo.org/x").await;
    assert!(server.try_with(&"0".repeat(64), &stranger).await.is_err());
}

#[tokio::test]
async fn the_same_key_may_repeat_and_either_answer_is_good() {
    let server = TestServer::start().await;
    let (token, pin) = server.token(None).await;
    let key = new_key();
    let first = attest(server.anonymous(&pin).await, &token, &key).await.unwrap();
    let second = attest(server.anonymous(&pin).await, &token, &key).await.unwrap();
    let (first, second) = (Credentials::new(&first, key.clone()), Credentials::new(&second, key));
    assert_eq!(first.id, second.id);
    // The answer that the agent has seen is the first; the second was lost on the way.
    assert!(call_as_agent(&server, &pin, &first).await.is_ok());
    // Or it uses the second; from then on that one counts.
    assert!(call_as_agent(&server, &pin, &second).await.is_ok());
    let refused = call_as_agent(&server, &pin, &first).await.unwrap_err();
    assert_eq!(permission_denied_reason(&refused), Some(Reason::AgentNotActive));
}

#[tokio::test]
async fn another_key_never_gets_in() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    for token in [agent.token.as_str(), agent.token.split_once('.').unwrap().0] {
        let refused = attest(server.anonymous(&agent.pin).await, token, &new_key()).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, SPENT));
    }
    // And the first agent is none the worse for it.
    assert!(call_as_agent(&server, &agent.pin, &agent.credentials).await.is_ok());
}

/// A machine without a disk comes back with another key: it is the same agent, and the one before is no agent any more.
#[tokio::test]
async fn a_reusable_token_lets_the_next_key_take_the_place() {
    let server = TestServer::start().await;
    let (_, pin) = server.token(None).await;
    let mut tokens = JoinTokensClient::new(server.local().await);
    let request = OwnCreateJoinTokenRequest {
        ttl: 600,
        agent_id: Some(id_field("spiffe://demo.org/node")),
        reusable: true,
    };
    let made = tokens.create_join_token(request).await.unwrap().into_inner();
    let join = async || {
        let key = new_key();
        let svid = attest(server.anonymous(&pin).await, &made.value, &key).await.unwrap();
        Credentials::new(&svid, key)
    };
    let first = join().await;
    // The ID is seen by many; the token that goes on being good is not in it.
    assert_eq!(first.id, format!("spiffe://demo.org/spire/agent/join_token/{}", made.id));
    assert!(!made.value.contains(&made.id));
    assert_eq!(call_as_agent(&server, &pin, &first).await.unwrap(), 1);

    let second = join().await;
    assert_eq!(second.id, first.id);
    let refused = call_as_agent(&server, &pin, &first).await.unwrap_err();
    assert_eq!(permission_denied_reason(&refused), Some(Reason::AgentNotActive));
    assert_eq!(call_as_agent(&server, &pin, &second).await.unwrap(), 1);

    // A banned agent stays banned, and a deleted token is none.
    let listed = tokens.list_join_tokens(ListJoinTokensRequest {}).await.unwrap().into_inner().tokens;
    let shown = listed.iter().find(|token| token.id == made.id).unwrap();
    assert!(shown.reusable && shown.key_sha256.len() == 64 && shown.used_from.starts_with("127.0.0.1"));
    let id = DeleteJoinTokenRequest { id: made.id.clone() };
    tokens.delete_join_token(id.clone()).await.unwrap();
    assert_eq!(tokens.delete_join_token(id).await.unwrap_err().code(), Code::NotFound);
    let refused = attest(server.anonymous(&pin).await, &made.value, &new_key()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, SPENT));
    assert!(call_as_agent(&server, &pin, &second).await.is_ok());
}

#[tokio::test]
async fn a_reusable_token_does_not_lift_a_ban_and_ends() {
    let server = TestServer::start().await;
    let (_, pin) = server.token(None).await;
    let mut tokens = JoinTokensClient::new(server.local().await);
    let request = OwnCreateJoinTokenRequest { ttl: 600, agent_id: None, reusable: true };
    let made = tokens.create_join_token(request).await.unwrap().into_inner();
    attest(server.anonymous(&pin).await, &made.value, &new_key()).await.unwrap();
    let mut admin = AgentClient::new(server.local().await);
    let ban = BanAgentRequest { id: made.agent_id.clone() };
    admin.ban_agent(ban).await.unwrap();
    let refused = attest(server.anonymous(&pin).await, &made.value, &new_key()).await.unwrap_err();
    assert_eq!(permission_denied_reason(&refused), Some(Reason::AgentBanned));

    let evict = DeleteAgentRequest { id: made.agent_id };
    admin.delete_agent(evict).await.unwrap();
    let refused = attest(server.anonymous(&pin).await, &made.value, &new_key()).await.unwrap_err();
    assert!(refused.message().contains(EVICTED), "{refused}");

    let request = OwnCreateJoinTokenRequest { ttl: 600, agent_id: None, reusable: true };
    let made = tokens.create_join_token(request).await.unwrap().into_inner();
    server.pass(Duration::from_secs(601));
    let refused = attest(server.anonymous(&pin).await, &made.value, &new_key()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "join token expired"));
}

/// Who is thrown out does not come back by what it has; its neighbour notices nothing, and another token makes another agent.
#[tokio::test]
async fn an_evicted_agent_does_not_come_back_by_its_token() {
    let server = TestServer::start().await;
    let (agent, neighbour) = (server.agent().await, server.agent().await);
    let entry_of = |agent: &Agent, id: &str| entry(id, &agent.credentials.id, 1000);
    server.create_entry(entry_of(&agent, "spiffe://demo.org/shop")).await;
    server.create_entry(entry_of(&neighbour, "spiffe://demo.org/orders")).await;
    let mut admin = AgentClient::new(server.local().await);
    let id = Some(id_field(&agent.credentials.id));
    admin.delete_agent(DeleteAgentRequest { id }).await.unwrap();

    // With the key that the token is bound to, as the agent would, and with another.
    for key in [agent.credentials.key.clone(), new_key()] {
        let refused = attest(server.anonymous(&agent.pin).await, &agent.token, &key).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(EVICTED), "{refused}");
    }
    assert!(call_as_agent(&server, &agent.pin, &agent.credentials).await.is_err());
    assert_eq!(call_as_agent(&server, &neighbour.pin, &neighbour.credentials).await.unwrap(), 1);
    let mut tokens = JoinTokensClient::new(server.local().await);
    let listed = tokens.list_join_tokens(ListJoinTokensRequest {}).await.unwrap().into_inner().tokens;
    let shown = listed.iter().find(|token| token.evicted_at > 0).unwrap();
    assert_eq!(shown.agent_id, Some(id_field(&agent.credentials.id)));
    assert!(shown.evicted_by.starts_with("local user"), "{shown:?}");
    // Not by the same secret either, that an administrator chooses by mistake.
    let bare = agent.token.split_once('.').unwrap().0.to_owned();
    let again = CreateJoinTokenRequest { ttl: 60, token: bare, agent_id: None };
    assert_eq!(admin.create_join_token(again).await.unwrap_err().code(), Code::AlreadyExists);
}

/// A reusable token is for a machine that begins anew: evicted, it comes back with another key and has its alias as before.
#[tokio::test]
async fn the_machine_of_a_reusable_token_has_its_alias_again() {
    let server = TestServer::start().await;
    let (_, pin) = server.token(None).await;
    let mut tokens = JoinTokensClient::new(server.local().await);
    let alias = Some(id_field("spiffe://demo.org/node"));
    let request = OwnCreateJoinTokenRequest { ttl: 600, agent_id: alias, reusable: true };
    let made = tokens.create_join_token(request).await.unwrap().into_inner();
    let evicted = new_key();
    attest(server.anonymous(&pin).await, &made.value, &evicted).await.unwrap();
    let mut admin = AgentClient::new(server.local().await);
    admin.delete_agent(DeleteAgentRequest { id: made.agent_id }).await.unwrap();
    let refused = attest(server.anonymous(&pin).await, &made.value, &evicted).await.unwrap_err();
    assert!(refused.message().contains(EVICTED), "{refused}");

    let key = new_key();
    let svid = attest(server.anonymous(&pin).await, &made.value, &key).await.unwrap();
    server.create_entry(entry("spiffe://demo.org/shop", "spiffe://demo.org/node", 1000)).await;
    assert_eq!(call_as_agent(&server, &pin, &Credentials::new(&svid, key)).await.unwrap(), 2);
}

#[tokio::test]
async fn tokens_that_are_unknown_or_expired_or_nonsense_are_refused() {
    let server = TestServer::start().await;
    let (token, pin) = server.token(None).await;
    for nonsense in ["", "a/../../b", "\u{0}", "nosuchtoken", &"x".repeat(300)] {
        let refused = attest(server.anonymous(&pin).await, nonsense, &new_key()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{nonsense:?}: {refused}");
    }
    server.pass(Duration::from_secs(601));
    let refused = attest(server.anonymous(&pin).await, &token, &new_key()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "join token expired"));
}

#[tokio::test]
async fn a_token_of_the_operators_choice_is_handed_out_as_it_is() {
    let server = TestServer::start().await;
    let mut admin = AgentClient::new(server.local().await);
    let request = |token: &str, ttl| CreateJoinTokenRequest { ttl, token: token.to_owned(), agent_id: None };
    let made = admin.create_join_token(request("my-token", 60)).await.unwrap().into_inner();
    assert_eq!(made.value, "my-token");
    assert_eq!(
        admin.create_join_token(request("my-token", 60)).await.unwrap_err().code(),
        Code::AlreadyExists
    );
    assert_eq!(admin.create_join_token(request("a b", 60)).await.unwrap_err().code(), Code::InvalidArgument);
    let no_ttl = admin.create_join_token(request("other", 0)).await.unwrap_err();
    assert_eq!(no_ttl.message(), "ttl is required, you must provide one");
}

#[tokio::test]
async fn a_renewed_svid_becomes_the_active_one_at_its_first_use() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let key = new_key();
    let csr = csr::create(&key, None, &[]).unwrap();
    let request = RenewAgentRequest { params: Some(AgentX509svidParams { csr }) };
    let renewed = agent.agents(&server).await.renew_agent(request).await.unwrap().into_inner().svid.unwrap();
    let renewed = Credentials::new(&renewed, key);
    assert_eq!(renewed.id, agent.credentials.id);

    assert!(call_as_agent(&server, &agent.pin, &agent.credentials).await.is_ok());
    assert!(call_as_agent(&server, &agent.pin, &renewed).await.is_ok());
    let refused = call_as_agent(&server, &agent.pin, &agent.credentials).await.unwrap_err();
    assert_eq!(permission_denied_reason(&refused), Some(Reason::AgentNotActive));
    assert_eq!(
        refused.message(),
        "authorization denied for method /spire.api.server.entry.v1.Entry/GetAuthorizedEntries"
    );
}

#[tokio::test]
async fn an_open_connection_does_not_outlive_the_svid() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let mut client = agent.entries(&server).await;
    assert!(client.get_authorized_entries(GetAuthorizedEntriesRequest::default()).await.is_ok());
    server.pass(Duration::from_secs(3601));
    let refused = client.get_authorized_entries(GetAuthorizedEntriesRequest::default()).await.unwrap_err();
    assert_eq!(permission_denied_reason(&refused), Some(Reason::AgentExpired));
}

#[tokio::test]
async fn a_banned_agent_stays_out_until_it_is_evicted() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let id = Some(id_field(&agent.credentials.id));
    let mut admin = AgentClient::new(server.local().await);
    admin.ban_agent(BanAgentRequest { id: id.clone() }).await.unwrap();
    let refused = call_as_agent(&server, &agent.pin, &agent.credentials).await.unwrap_err();
    assert_eq!(permission_denied_reason(&refused), Some(Reason::AgentBanned));
    // The token is of no use to it either, although it is bound to this key.
    let again = attest(server.anonymous(&agent.pin).await, &agent.token, &agent.credentials.key).await;
    assert_eq!(again.unwrap_err().message(), "failed to attest: agent is banned");
    assert!(get(&server, &agent.credentials.id).await.banned);

    admin.delete_agent(DeleteAgentRequest { id: id.clone() }).await.unwrap();
    let refused = call_as_agent(&server, &agent.pin, &agent.credentials).await.unwrap_err();
    assert_eq!(permission_denied_reason(&refused), Some(Reason::AgentNotAttested));
    let gone = admin.delete_agent(DeleteAgentRequest { id }).await.unwrap_err();
    assert_eq!((gone.code(), gone.message()), (Code::NotFound, "agent not found"));
}

#[tokio::test]
async fn agents_are_listed_with_what_they_report() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let report = PostStatusRequest { agent_version: "1.2.3".to_owned(), current_bundle_serial: 0 };
    agent.agents(&server).await.post_status(report).await.unwrap();
    let listed =
        AgentClient::new(server.local().await).list_agents(ListAgentsRequest::default()).await.unwrap();
    let listed = listed.into_inner().agents;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].agent_version, "1.2.3");

    let long = PostStatusRequest { agent_version: "x".repeat(256), current_bundle_serial: 0 };
    let refused = agent.agents(&server).await.post_status(long).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_an_unknown_caller_sends_is_bounded() {
    let server = TestServer::start().await;
    let (_, pin) = server.token(None).await;
    let refused = attest(server.anonymous(&pin).await, &"x".repeat(300 << 10), &new_key()).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
}
