//! Agents between their stored and their sent form, and the filters of their listings.

use jiff::fmt::strtime;
use svidecar_api::spire::api::{
    server::agent::v1::{count_agents_request, list_agents_request},
    types::{self, AgentMask, SelectorMatch},
};
use tonic::Status;

use super::{selectors, status};
use crate::store::{AgentFilter, AgentRecord, Match, Selector};

/// As sent, with the fields that the mask names; all without a mask.
pub fn to_proto(agent: &AgentRecord, mask: Option<&AgentMask>) -> types::Agent {
    let banned = agent.is_banned();
    let mut sent = types::Agent {
        id: Some((&agent.id).into()),
        attestation_type: agent.attestation_type.clone(),
        x509svid_serial_number: agent.serial.clone(),
        x509svid_expires_at: agent.expires_at,
        selectors: agent.selectors.iter().map(selectors::to_proto).collect(),
        banned,
        can_reattest: agent.can_reattest,
        agent_version: agent.agent_version.clone(),
    };
    if let Some(mask) = mask {
        let none = types::Agent::default();
        macro_rules! keep {
            ($($field:ident),*) => { $(if !mask.$field { sent.$field = none.$field; })* };
        }
        keep!(
            attestation_type,
            x509svid_serial_number,
            x509svid_expires_at,
            selectors,
            banned,
            can_reattest,
            agent_version
        );
    }
    sent
}

/// The filter of a listing.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn list_filter(filter: Option<list_agents_request::Filter>) -> Result<AgentFilter, Status> {
    let Some(filter) = filter else { return Ok(AgentFilter::default()) };
    Ok(AgentFilter {
        attestation_type: Some(filter.by_attestation_type).filter(|kind| !kind.is_empty()),
        banned: filter.by_banned,
        can_reattest: filter.by_can_reattest,
        expires_before: expires_before(&filter.by_expires_before)?,
        selectors: filter.by_selector_match.map(|by| by_selectors(&by)).transpose()?,
    })
}

/// The filter of a count: the same under another name.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn count_filter(filter: Option<count_agents_request::Filter>) -> Result<AgentFilter, Status> {
    list_filter(filter.map(|filter| list_agents_request::Filter {
        by_attestation_type: filter.by_attestation_type,
        by_selector_match: filter.by_selector_match,
        by_banned: filter.by_banned,
        by_can_reattest: filter.by_can_reattest,
        by_expires_before: filter.by_expires_before,
    }))
}

fn by_selectors(by: &SelectorMatch) -> Result<(Match, Vec<Selector>), Status> {
    let selectors = selectors::from_proto(&by.selectors)
        .map_err(|error| status::invalid("failed to parse selectors", error))?;
    Ok((selectors::comparison(by.r#match()), selectors))
}

/// Reads `2026-01-31 15:04:05 -0700 -07`, as SPIRE's command line writes times.
fn expires_before(text: &str) -> Result<Option<i64>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut words = text.split_ascii_whitespace();
    let (date, time, offset) = (words.next(), words.next(), words.next());
    let stamp = [date, time, offset].map(Option::unwrap_or_default).join(" ");
    let parsed = strtime::parse("%Y-%m-%d %H:%M:%S %z", stamp).and_then(|parsed| parsed.to_timestamp());
    match parsed {
        Ok(timestamp) => Ok(Some(timestamp.as_second())),
        Err(_) => Err(status::invalid(
            "failed to parse by_expires_before",
            format!("{text:?} is not a time such as \"2026-01-31 15:04:05 -0700 -07\""),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use svidecar_id::SpiffeId;

    use super::*;

    #[test]
    fn spires_way_to_write_a_time_is_read() {
        assert_eq!(expires_before("").unwrap(), None);
        assert_eq!(expires_before("2020-01-01 00:00:00 +0000 UTC").unwrap(), Some(1_577_836_800));
        assert_eq!(expires_before("2020-01-01 02:00:00 +0200 +02").unwrap(), Some(1_577_836_800));
        for wrong in ["tomorrow", "2020-01-01", "2020-13-01 00:00:00 +0000 UTC"] {
            assert_eq!(expires_before(wrong).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
    }

    #[test]
    fn a_mask_leaves_the_id_and_what_it_names() {
        let agent = AgentRecord {
            id: SpiffeId::parse("spiffe://demo.org/spire/agent/join_token/a").unwrap(),
            attestation_type: "join_token".to_owned(),
            serial: String::new(),
            expires_at: 7,
            new_serial: "2".to_owned(),
            new_expires_at: 8,
            key_sha256: "3".to_owned(),
            new_key_sha256: "4".to_owned(),
            generation: 1,
            issued_at: 1,
            member_until: 9,
            can_reattest: true,
            agent_version: "1".to_owned(),
            selectors: vec![Selector::new("a", "b")],
        };
        let whole = to_proto(&agent, None);
        assert!(whole.banned && whole.can_reattest && whole.selectors.len() == 1);
        let masked = to_proto(&agent, Some(&AgentMask { banned: true, ..AgentMask::default() }));
        assert_eq!(masked, types::Agent { id: whole.id, banned: true, ..types::Agent::default() });
    }
}
