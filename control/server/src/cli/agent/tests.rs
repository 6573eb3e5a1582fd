#![allow(clippy::unwrap_used)]

use svidecar_api::spire::api::types::{Agent, Selector, Spiffeid};

use super::*;

fn agent(name: &str) -> Agent {
    Agent {
        id: Some(Spiffeid { trust_domain: "example.org".to_owned(), path: format!("/spire/agent/{name}") }),
        attestation_type: "join_token".to_owned(),
        x509svid_serial_number: "1234".to_owned(),
        x509svid_expires_at: 1_547_547_197,
        selectors: vec![Selector { r#type: "a".to_owned(), value: "b:c".to_owned() }],
        banned: false,
        can_reattest: true,
        agent_version: String::new(),
    }
}

fn text(print: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn lists_as_spire_does() {
    assert_eq!(text(|out| text::list(&[], out)), "No attested agents found\n");
    let banned = Agent { banned: true, agent_version: "0.1.0".to_owned(), ..agent("two") };
    let expected = "\
Found 2 attested agents:

SPIFFE ID         : spiffe://example.org/spire/agent/one
Attestation type  : join_token
Expiration time   : 2019-01-15 10:13:17 +0000 UTC
Serial number     : 1234
Can re-attest     : true

SPIFFE ID         : spiffe://example.org/spire/agent/two
Attestation type  : join_token
Expiration time   : 2019-01-15 10:13:17 +0000 UTC
Banned            : true
Can re-attest     : true
Agent version     : 0.1.0

";
    assert_eq!(text(|out| text::list(&[agent("one"), banned], out)), expected);
}

#[test]
fn shows_as_spire_does() {
    let expected = "\
Found an attested agent given its SPIFFE ID

SPIFFE ID         : spiffe://example.org/spire/agent/one
Attestation type  : join_token
Expiration time   : 2019-01-15 10:13:17 +0000 UTC
Serial number     : 1234
Can re-attest     : true

Selectors         : a:b:c
";
    assert_eq!(text(|out| text::show(&agent("one"), out)), expected);
}

#[test]
fn json_has_every_field_and_64_bit_numbers_as_text() {
    let response = ListAgentsResponse { agents: vec![agent("one")], next_page_token: String::new() };
    let expected = "{\"agents\":[{\"agent_version\":\"\",\"attestation_type\":\"join_token\",\"banned\":false,\
        \"can_reattest\":true,\"id\":{\"path\":\"/spire/agent/one\",\"trust_domain\":\"example.org\"},\
        \"selectors\":[{\"type\":\"a\",\"value\":\"b:c\"}],\"x509svid_expires_at\":\"1547547197\",\
        \"x509svid_serial_number\":\"1234\"}],\"next_page_token\":\"\"}";
    assert_eq!(super::super::json::of_message(&response).unwrap().to_string(), expected);
    assert_eq!(super::super::json::of_message(&()).unwrap().to_string(), "{}");
}

#[test]
fn purging_says_what_happened() {
    let purged = |id: &str, deleted: bool, error: Option<&str>| Purged {
        id: id.to_owned(),
        deleted,
        error: error.map(str::to_owned),
    };
    assert_eq!(text(|out| text::purged(&[], false, out)), "No agents to purge.\n");
    let both = [purged("spiffe://a/1", true, None), purged("spiffe://a/2", false, Some("no"))];
    assert_eq!(
        text(|out| text::purged(&both, false, out)),
        "Found 2 expired agents\n\nAgents purged:\nSPIFFE ID         : spiffe://a/1\n\
         Agents not purged:\nSPIFFE ID         : spiffe://a/2\nError             : no\n"
    );
    assert_eq!(
        text(|out| text::purged(&both[..1], true, out)),
        "Found 1 expired agent\n\n\nAgents that can be purged:\nSPIFFE ID         : spiffe://a/1\n"
    );
}

#[test]
fn times_of_the_filter_are_checked() {
    assert!(check_time("2019-01-15 10:13:17 -0700 -07").is_ok());
    for wrong in ["2019-01-15", "2019-01-15 10:13:17 -0700", "2019-13-15 10:13:17 -0700 -07"] {
        assert!(check_time(wrong).unwrap_err().to_string().starts_with("date is not valid"), "{wrong}");
    }
    assert_eq!(
        [Some("true"), Some("false"), Some("all"), None].map(three_states),
        [Some(true), Some(false), None, None]
    );
}
