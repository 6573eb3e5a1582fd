//! The settings of identity headers.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{pattern::IdPattern, text::header_name_schema};

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
