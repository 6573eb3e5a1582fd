#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;

use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, ReflectMessage as _};
use svidecar_api::spire::api::{
    server::entry::v1::{BatchCreateEntryResponse, batch_create_entry_response, batch_delete_entry_response},
    types::{AdditionalAttributes, Selector, Spiffeid, Status},
};
use svidecar_process::testing::captured;

use super::*;
use crate::cli::json;

fn id(path: &str) -> Option<Spiffeid> {
    Some(Spiffeid { trust_domain: "example.org".to_owned(), path: path.to_owned() })
}

fn plain() -> Entry {
    Entry {
        id: "00000000-0000-0000-0000-000000000000".to_owned(),
        spiffe_id: id("/son"),
        parent_id: id("/father"),
        selectors: vec![Selector { r#type: "foo".to_owned(), value: "bar".to_owned() }],
        created_at: 1_547_583_197,
        ..Entry::default()
    }
}

fn full() -> Entry {
    Entry {
        x509_svid_ttl: 60,
        jwt_svid_ttl: 30,
        federates_with: vec!["spiffe://domaina.test".to_owned(), "spiffe://domainb.test".to_owned()],
        admin: true,
        downstream: true,
        expires_at: 1_552_410_266,
        dns_names: vec!["unu1000".to_owned(), "ung1000".to_owned()],
        store_svid: true,
        hint: "internal".to_owned(),
        additional_attributes: Some(AdditionalAttributes {
            disable_x509_svid_prefetch: true,
            jwt_svid_include_jti: true,
        }),
        ..plain()
    }
}

/// The entry once without each field that the API has, by the field's name.
pub(super) fn without_each(entry: &Entry) -> Vec<(String, Entry)> {
    let pool = DescriptorPool::decode(svidecar_api::SERVER_FILE_DESCRIPTOR_SET).unwrap();
    let mut whole = DynamicMessage::new(pool.get_message_by_name("spire.api.types.Entry").unwrap());
    whole.transcode_from(entry).unwrap();
    let without = |field: FieldDescriptor| {
        let mut message = whole.clone();
        assert!(message.has_field(&field), "{} is not set", field.name());
        message.clear_field(&field);
        (field.name().to_owned(), message.transcode_to().unwrap())
    };
    whole.descriptor().fields().map(without).collect()
}

/// With every field set.
pub(super) fn whole() -> Entry {
    Entry { revision_number: 1, ..full() }
}

const PLAIN: &str = "\
Entry ID                : 00000000-0000-0000-0000-000000000000
SPIFFE ID               : spiffe://example.org/son
Parent ID               : spiffe://example.org/father
Revision                : 0
X509-SVID TTL           : default
JWT-SVID TTL            : default
Selector                : foo:bar

";

const FULL: &str = "\
Entry ID                : 00000000-0000-0000-0000-000000000000
SPIFFE ID               : spiffe://example.org/son
Parent ID               : spiffe://example.org/father
Revision                : 0
Downstream              : true
X509-SVID TTL           : 60
JWT-SVID TTL            : 30
Expiration time         : 2019-03-12 17:04:26 +0000 UTC
Selector                : foo:bar
FederatesWith           : spiffe://domaina.test
FederatesWith           : spiffe://domainb.test
DNS name                : unu1000
DNS name                : ung1000
Admin                   : true
StoreSvid               : true
Hint                    : internal
DisableX509SvidPrefetch : true
JwtSvidIncludeJti       : true

";

/// What is printed to stdout and stderr, and whether it was a success.
fn printed(print: impl FnOnce(&mut Console) -> Result<(), CliError>) -> (String, String, Option<String>) {
    let (mut console, seen) = captured();
    let outcome = print(&mut console);
    (seen.out(), seen.err(), outcome.err().map(|error| error.to_string()))
}

#[test]
fn entries_are_printed_as_spire_does() {
    let list = |entries: &[Entry]| printed(|console| Ok(text::list(entries, console.out())?)).0;
    assert_eq!(list(&[]), "Found 0 entries\n");
    assert_eq!(list(&[plain()]), format!("Found 1 entry\n{PLAIN}"));
    assert_eq!(list(&[plain(), full()]), format!("Found 2 entries\n{PLAIN}{FULL}"));
    assert!(list(&[Entry::default()]).contains("Entry ID                : (none)\n"));
}

/// Whatever fields the API has.
#[test]
fn every_field_is_printed_but_the_time_of_creation() {
    let print = |entry: &Entry| printed(|console| Ok(text::one(entry, console.out())?)).0;
    for (field, entry) in without_each(&whole()) {
        assert_eq!(print(&entry) == print(&whole()), field == "created_at", "{field}");
    }
}

#[test]
fn json_is_what_spire_prints() {
    let response = ListEntriesResponse { entries: vec![plain()], next_page_token: String::new() };
    let expected = "{\"entries\":[{\"admin\":false,\"created_at\":\"1547583197\",\"dns_names\":[],\"downstream\":false,\
        \"expires_at\":\"0\",\"federates_with\":[],\"hint\":\"\",\"id\":\"00000000-0000-0000-0000-000000000000\",\
        \"jwt_svid_ttl\":0,\"parent_id\":{\"path\":\"/father\",\"trust_domain\":\"example.org\"},\
        \"revision_number\":\"0\",\"selectors\":[{\"type\":\"foo\",\"value\":\"bar\"}],\
        \"spiffe_id\":{\"path\":\"/son\",\"trust_domain\":\"example.org\"},\"store_svid\":false,\"x509_svid_ttl\":0}],\
        \"next_page_token\":\"\"}";
    assert_eq!(json::of_message(&response).unwrap().to_string(), expected);
    let status = Some(Status { code: 0, message: "OK".to_owned() });
    let created = BatchCreateEntryResponse {
        results: vec![batch_create_entry_response::Result { status, entry: Some(full()) }],
    };
    let json = json::of_message(&created).unwrap();
    let result = &json["results"][0];
    assert_eq!(result["status"].to_string(), "{\"code\":0,\"message\":\"OK\"}");
    assert_eq!(result["entry"]["expires_at"], "1552410266");
    assert_eq!(
        result["entry"]["additional_attributes"].to_string(),
        "{\"disable_x509_svid_prefetch\":true,\"jwt_svid_include_jti\":true}"
    );
}

#[test]
fn what_failed_goes_to_stderr_with_its_entry() {
    let results = [
        batch_create_entry_response::Result {
            status: Some(Status { code: 6, message: "similar entry already exists".to_owned() }),
            entry: Some(Entry { id: String::new(), ..plain() }),
        },
        batch_create_entry_response::Result { status: Some(Status::default()), entry: Some(plain()) },
    ];
    let (out, err, error) = printed(|console| text::created(&results, console));
    assert_eq!(out, PLAIN);
    let entry = PLAIN.replace("00000000-0000-0000-0000-000000000000", "(none)");
    assert_eq!(
        err,
        format!(
            "Failed to create the following entry (code: AlreadyExists, msg: \"similar entry already exists\"):\n{entry}"
        )
    );
    assert_eq!(error.as_deref(), Some("failed to create one or more entries"));
}

#[test]
fn deletions_are_told_as_spire_does() {
    let result = |id: &str, code: i32, message: &str| batch_delete_entry_response::Result {
        status: Some(Status { code, message: message.to_owned() }),
        id: id.to_owned(),
    };
    let (good, bad) = (result("a", 0, "OK"), result("b", 5, "entry not found"));
    let (out, err, error) = printed(|console| text::deleted(std::slice::from_ref(&good), console));
    assert_eq!(
        (out.as_str(), err.as_str(), error),
        ("Deleted entry with ID: a\n\n\nDeleted 1 entries successfully", "", None)
    );
    let (out, err, error) = printed(|console| text::deleted(&[good, bad.clone()], console));
    assert_eq!(
        out,
        "Deleted entry with ID: a\n\n\n\n\nDeleted 1 entries successfully, but failed to delete 1 entries"
    );
    assert_eq!(err, "Failed to delete entry with ID b (code: NotFound, msg: \"entry not found\")\n");
    assert_eq!(error.as_deref(), Some("failed to delete one or more entries"));
    let (out, ..) = printed(|console| text::deleted(&[bad], console));
    assert_eq!(out, "\n\nFailed to delete 1 entries");
}

#[test]
fn spires_registration_files_are_read() {
    let file = r#"{"entries": [{
        "selectors": [{"type": "unix", "value": "uid:1111"}],
        "spiffe_id": "spiffe://example.org/Blog",
        "parent_id": "spiffe://example.org/spire/agent/join_token/TokenBlog",
        "x509_svid_ttl": 200, "jwt_svid_ttl": 30, "admin": true, "entryExpiry": 9,
        "additional_attributes": {"disable_x509_svid_prefetch": true}
    }]}"#;
    let entries = data::parse_entries(file, Path::new("good.json")).unwrap();
    let expected = Entry {
        spiffe_id: id("/Blog"),
        parent_id: id("/spire/agent/join_token/TokenBlog"),
        selectors: vec![Selector { r#type: "unix".to_owned(), value: "uid:1111".to_owned() }],
        x509_svid_ttl: 200,
        jwt_svid_ttl: 30,
        admin: true,
        expires_at: 9,
        additional_attributes: Some(AdditionalAttributes {
            disable_x509_svid_prefetch: true,
            jwt_svid_include_jti: false,
        }),
        ..Entry::default()
    };
    assert_eq!(entries, [expected]);
    let misspelt = file.replace("parent_id", "parent");
    let error = data::parse_entries(&misspelt, Path::new("bad.json")).unwrap_err().to_string();
    assert!(error.contains("bad.json:4:9") && error.contains("parent_id"), "{error}");
}

#[test]
fn listings_are_in_spires_order() {
    let selector = |value: &str| Selector { r#type: "a".to_owned(), value: value.to_owned() };
    let mut entries = vec![
        Entry { spiffe_id: id("/z"), ..plain() },
        Entry { spiffe_id: id("/a"), selectors: vec![selector("2"), selector("1")], ..plain() },
        Entry { spiffe_id: id("/a"), x509_svid_ttl: 1, ..plain() },
    ];
    sort(&mut entries);
    let order: Vec<_> = entries
        .iter()
        .map(|entry| (values::id_text(entry.spiffe_id.as_ref()), entry.x509_svid_ttl))
        .collect();
    assert_eq!(
        order
            .iter()
            .map(|(id, ttl)| (id.trim_start_matches("spiffe://example.org"), *ttl))
            .collect::<Vec<_>>(),
        [("/a", 0), ("/a", 1), ("/z", 0)]
    );
    assert_eq!(entries[0].selectors, [selector("1"), selector("2")]);
}
