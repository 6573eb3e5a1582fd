//! The settings of identity headers.

use std::collections::HashSet;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_document::problems::Problems;
use svidecar_policy::pattern::IdPattern;

use crate::text::{header_name_schema, is_header_name};

/// Headers that carry the message itself (RFC 9110 §7.6.1, RFC 9112): an identity there would break it.
const RESERVED_HEADERS: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-client-cert",
];

/// Headers that tell our workload who the peer is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityHeaderSettings {
    /// What becomes of the identity headers that the peer sent.
    pub mode: HeaderMode,
    /// Peers whose `x-forwarded-client-cert` is believed and appended to, whatever the mode.
    pub append_from: Vec<IdPattern>,
    /// What `x-forwarded-client-cert` says of the peer's certificate.
    pub xfcc_details: Vec<XfccDetail>,
    /// Header with the peer's SPIFFE ID and nothing else.
    #[schemars(schema_with = "header_name_schema")]
    pub spiffe_id_header: String,
    /// Parts of the peer's SPIFFE ID as headers.
    pub from_path: Vec<HeadersFromPath>,
}

impl Default for IdentityHeaderSettings {
    fn default() -> Self {
        Self {
            mode: HeaderMode::default(),
            append_from: Vec::new(),
            xfcc_details: vec![XfccDetail::By, XfccDetail::Hash, XfccDetail::Uri],
            spiffe_id_header: "x-spiffe-id".to_owned(),
            from_path: Vec::new(),
        }
    }
}

impl IdentityHeaderSettings {
    /// Notes headers that cannot be set, or not so.
    pub(super) fn validate(&self, key: &str, problems: &mut Problems) {
        let mut seen = HashSet::new();
        check_header(&self.spiffe_id_header, &format!("{key}.spiffe_id_header"), &mut seen, problems);
        if self.mode == HeaderMode::Sanitize && !self.from_path.is_empty() {
            problems.add(format!("{key}.from_path"), "`mode: sanitize` sets no headers");
        }
        for (index, form) in self.from_path.iter().enumerate() {
            let mut used = HashSet::new();
            for (name, template) in &form.headers {
                let key = format!("{key}.from_path[{index}].headers.{name}");
                // The same header may be set from several forms of ID: only one of them matches a peer.
                let mut others = seen.clone();
                check_header(name, &key, &mut others, problems);
                if !used.insert(canonical(name)) {
                    problems.add(&key, format!("the header `{name}` is set twice"));
                }
                check_template(template, &form.id.capture_names().collect::<Vec<_>>(), &key, problems);
            }
        }
    }
}

/// What becomes of the identity headers that the peer sent; Envoy's `forward_client_cert_details`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderMode {
    /// They are removed, then set from the handshake.
    #[default]
    SanitizeSet,
    /// They are removed.
    Sanitize,
    /// Ours is appended to the peer's `x-forwarded-client-cert`.
    AppendForward,
    /// The peer's `x-forwarded-client-cert` is forwarded as it is.
    ForwardOnly,
}

/// One part of an element of `x-forwarded-client-cert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum XfccDetail {
    /// `By`: our own SPIFFE ID.
    By,
    /// `Hash`: SHA-256 of the peer's certificate.
    Hash,
    /// `URI`: the peer's SPIFFE ID.
    Uri,
    /// `Subject`: the subject of the peer's certificate.
    Subject,
    /// `DNS`: the DNS names in the peer's certificate.
    Dns,
    /// `Cert`: the peer's certificate, URL-encoded PEM.
    Cert,
    /// `Chain`: the peer's whole chain, URL-encoded PEM.
    Chain,
}

/// Parts of one form of SPIFFE ID as headers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadersFromPath {
    /// The form, with names for its parts: `spiffe://demo.org/robot/{robot_id}`.
    pub id: IdPattern,
    /// Header to value; `{robot_id}` in the value stands for that part of the ID.
    #[schemars(extend("minProperties" = 1))]
    pub headers: IndexMap<String, String>,
}

fn check_header(name: &str, key: &str, seen: &mut HashSet<String>, problems: &mut Problems) {
    if let Err(error) = is_header_name(name) {
        problems.add(key, error.to_string());
    } else if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        problems.add(key, format!("the header `{name}` is not free to be set"));
    } else if !seen.insert(canonical(name)) {
        problems.add(key, format!("the header `{name}` is set twice"));
    }
}

/// Servers that speak CGI cannot tell `-` from `_`.
fn canonical(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// `{name}` must name a part of the ID; the rest is printable ASCII.
fn check_template(template: &str, parts: &[&str], key: &str, problems: &mut Problems) {
    if template.is_empty() || !template.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        problems.add(key, "expected printable ASCII, such as `{robot_id}`");
    }
    let mut rest = template;
    while let Some((_, after)) = rest.split_once('{') {
        let Some((name, next)) = after.split_once('}') else {
            problems.add(key, format!("`{template}` has a `{{` without its `}}`"));
            return;
        };
        if !parts.contains(&name) {
            let known = if parts.is_empty() { "none".to_owned() } else { parts.join(", ") };
            problems.add(key, format!("`{{{name}}}` is not a part of the ID above; its parts: {known}"));
        }
        rest = next;
    }
}
