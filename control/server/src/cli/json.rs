//! Messages as JSON, just as SPIRE's command line prints them: the protobuf JSON mapping with the original
//! field names, defaults included, 64-bit numbers as strings, keys in alphabetical order, nothing for a
//! message that is not set.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage as _, Value};
use serde_json::Value as Json;
use svidecar_api::{
    spire::api::{
        server::{
            agent::v1 as agent, bundle::v1 as bundle, entry::v1 as entry, localauthority::v1 as local,
            svid::v1 as svid,
        },
        types,
    },
    svidecar::server::v1 as own,
};

use super::error::CliError;

/// A message that commands print.
pub(super) trait Described {
    /// Its full name in the protobuf definitions.
    const NAME: &'static str;
}

macro_rules! described {
    ($($message:ty => $name:literal),* $(,)?) => {
        $(impl Described for $message { const NAME: &'static str = $name; })*
    };
}

described! {
    types::Agent => "spire.api.types.Agent",
    types::Bundle => "spire.api.types.Bundle",
    types::JoinToken => "spire.api.types.JoinToken",
    agent::CountAgentsResponse => "spire.api.server.agent.v1.CountAgentsResponse",
    agent::ListAgentsResponse => "spire.api.server.agent.v1.ListAgentsResponse",
    bundle::BatchDeleteFederatedBundleResponse => "spire.api.server.bundle.v1.BatchDeleteFederatedBundleResponse",
    bundle::BatchSetFederatedBundleResponse => "spire.api.server.bundle.v1.BatchSetFederatedBundleResponse",
    bundle::CountBundlesResponse => "spire.api.server.bundle.v1.CountBundlesResponse",
    bundle::ListFederatedBundlesResponse => "spire.api.server.bundle.v1.ListFederatedBundlesResponse",
    entry::BatchCreateEntryResponse => "spire.api.server.entry.v1.BatchCreateEntryResponse",
    entry::BatchDeleteEntryResponse => "spire.api.server.entry.v1.BatchDeleteEntryResponse",
    entry::BatchUpdateEntryResponse => "spire.api.server.entry.v1.BatchUpdateEntryResponse",
    entry::CountEntriesResponse => "spire.api.server.entry.v1.CountEntriesResponse",
    entry::ListEntriesResponse => "spire.api.server.entry.v1.ListEntriesResponse",
    own::ListBootstrapKeysResponse => "svidecar.server.v1.ListBootstrapKeysResponse",
    own::RotateBootstrapKeyResponse => "svidecar.server.v1.RotateBootstrapKeyResponse",
    own::RevokeBootstrapKeyResponse => "svidecar.server.v1.RevokeBootstrapKeyResponse",
    own::ClockStatus => "svidecar.server.v1.ClockStatus",
    own::CreateJoinTokenResponse => "svidecar.server.v1.CreateJoinTokenResponse",
    own::DeleteJoinTokenResponse => "svidecar.server.v1.DeleteJoinTokenResponse",
    own::ListJoinTokensResponse => "svidecar.server.v1.ListJoinTokensResponse",
    local::AuthorityState => "spire.api.server.localauthority.v1.AuthorityState",
    local::GetX509AuthorityStateResponse => "spire.api.server.localauthority.v1.GetX509AuthorityStateResponse",
    local::GetJwtAuthorityStateResponse => "spire.api.server.localauthority.v1.GetJWTAuthorityStateResponse",
    svid::MintJwtsvidResponse => "spire.api.server.svid.v1.MintJWTSVIDResponse",
    // What `ban` and `evict` answer has no fields, and its JSON is `{}`.
    () => "google.protobuf.Empty",
}

/// The JSON of a message.
pub(super) fn of_message<M: Message + Described>(message: &M) -> Result<Json, CliError> {
    let internal = |reason: String| CliError::Message(format!("cannot print {} as JSON: {reason}", M::NAME));
    let pool = DescriptorPool::decode(svidecar_api::SERVER_FILE_DESCRIPTOR_SET)
        .map_err(|error| internal(error.to_string()))?;
    let descriptor =
        pool.get_message_by_name(M::NAME).ok_or_else(|| internal("it is not described".to_owned()))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| internal(error.to_string()))?;
    Ok(of_dynamic(&dynamic))
}

fn of_dynamic(message: &DynamicMessage) -> Json {
    let fields: BTreeMap<String, Json> = message
        .descriptor()
        .fields()
        .filter(|field| !field.supports_presence() || message.has_field(field))
        .map(|field| (field.name().to_owned(), of_value(&message.get_field(&field))))
        .collect();
    Json::Object(fields.into_iter().collect())
}

fn of_value(value: &Value) -> Json {
    match value {
        Value::Bool(flag) => (*flag).into(),
        Value::I32(number) | Value::EnumNumber(number) => (*number).into(),
        Value::U32(number) => (*number).into(),
        Value::I64(number) => number.to_string().into(),
        Value::U64(number) => number.to_string().into(),
        Value::F32(number) => f64::from(*number).into(),
        Value::F64(number) => (*number).into(),
        Value::String(text) => text.as_str().into(),
        Value::Bytes(bytes) => STANDARD.encode(bytes).into(),
        Value::Message(message) => of_dynamic(message),
        Value::List(list) => list.iter().map(of_value).collect(),
        // None of the messages above has a map.
        Value::Map(_) => Json::Null,
    }
}
