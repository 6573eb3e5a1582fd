//! Entries between their stored and their sent form, and the filters of their listings.

use svidecar_api::spire::api::{
    server::entry::v1::{count_entries_request, list_entries_request},
    types::{self, AdditionalAttributes, FederatesWithMatch, SelectorMatch, federates_with_match},
};
use svidecar_authority::x509::dns;
use svidecar_id::TrustDomain;
use tonic::Status;

use super::{selectors, status};
use crate::{
    ids,
    store::{EntryFilter, EntryMask, EntryRecord, Match, Selector},
};

/// A field of the API's entry that a mask can leave out.
struct Field {
    /// Whether a mask names it.
    is_named: fn(&types::EntryMask) -> bool,
    /// Puts it into the message.
    send: fn(&EntryRecord, &mut types::Entry),
    /// Names what an update by it sets; nothing for what is the server's own.
    choose: fn(&mut EntryMask),
}

/// One line for each: its name in the API, what is sent of the `entry`, and the fields of it that an update sets by that name.
macro_rules! fields {
    ($entry:ident: $($name:ident = $value:expr, sets [$($set:ident),*];)*) => {
        const FIELDS: &[Field] = &[$(Field {
            is_named: |mask| mask.$name,
            send: |$entry, sent| sent.$name = $value,
            choose: |_mask| { $(_mask.$set = true;)* },
        }),*];
    };
}

fields! {
    entry:
    spiffe_id = Some((&entry.spiffe_id).into()), sets [spiffe_id];
    parent_id = Some((&entry.parent_id).into()), sets [parent_id];
    selectors = entry.selectors.iter().map(selectors::to_proto).collect(), sets [selectors];
    x509_svid_ttl = entry.x509_svid_ttl, sets [x509_svid_ttl];
    federates_with = entry.federates_with.iter().map(TrustDomain::to_string).collect(), sets [federates_with];
    admin = entry.admin, sets [admin];
    downstream = entry.downstream, sets [downstream];
    expires_at = entry.expires_at, sets [expires_at];
    dns_names = entry.dns_names.clone(), sets [dns_names];
    revision_number = entry.revision, sets [];
    store_svid = entry.store_svid, sets [store_svid];
    jwt_svid_ttl = entry.jwt_svid_ttl, sets [jwt_svid_ttl];
    hint = entry.hint.clone(), sets [hint];
    created_at = entry.created_at, sets [];
    additional_attributes = attributes(entry), sets [disable_x509_svid_prefetch, jwt_svid_include_jti];
}

/// The message for two fields; none when both have their default, as SPIRE does it.
fn attributes(entry: &EntryRecord) -> Option<AdditionalAttributes> {
    let attributes = AdditionalAttributes {
        disable_x509_svid_prefetch: entry.disable_x509_svid_prefetch,
        jwt_svid_include_jti: entry.jwt_svid_include_jti,
    };
    (attributes != AdditionalAttributes::default()).then_some(attributes)
}

/// As sent, whole.
pub fn to_proto(entry: &EntryRecord) -> types::Entry {
    to_proto_masked(entry, None)
}

/// As sent, with the ID and the fields that the mask names; all without a mask.
pub fn to_proto_masked(entry: &EntryRecord, mask: Option<&types::EntryMask>) -> types::Entry {
    let mut sent = types::Entry { id: entry.id.clone(), ..types::Entry::default() };
    for field in FIELDS.iter().filter(|field| mask.is_none_or(field.is_named)) {
        (field.send)(entry, &mut sent);
    }
    sent
}

/// Which fields an update sets; the server's own (revision and creation time) never.
pub fn input_mask(mask: Option<&types::EntryMask>) -> EntryMask {
    let Some(mask) = mask else { return EntryMask::ALL };
    let mut chosen = EntryMask::default();
    for field in FIELDS.iter().filter(|field| (field.is_named)(mask)) {
        (field.choose)(&mut chosen);
    }
    chosen
}

/// Reads an entry that was sent. Its IDs and selectors may be missing when the mask leaves them out.
///
/// # Errors
/// What is wrong, in SPIRE's words.
pub fn from_proto(
    trust_domain: &TrustDomain,
    entry: &types::Entry,
    mask: EntryMask,
) -> Result<EntryRecord, String> {
    // A field that the mask leaves out is not looked at; any ID fills its place.
    let unused = || trust_domain.id();
    let parent_id = match mask.parent_id {
        true => ids::member(trust_domain, entry.parent_id.as_ref())
            .map_err(|error| format!("invalid parent ID: {error}"))?,
        false => unused(),
    };
    let spiffe_id = match mask.spiffe_id {
        true => ids::workload(trust_domain, entry.spiffe_id.as_ref())
            .map_err(|error| format!("invalid spiffe ID: {error}"))?,
        false => unused(),
    };
    let selectors = match mask.selectors {
        true if entry.selectors.is_empty() => return Err("selector list is empty".to_owned()),
        true => selectors::from_proto(&entry.selectors)?,
        false => Vec::new(),
    };
    for name in &entry.dns_names {
        dns::check(name).map_err(|error| format!("invalid DNS name: {error}"))?;
    }
    let mut federates_with = Vec::with_capacity(entry.federates_with.len());
    for name in &entry.federates_with {
        let name = TrustDomain::parse_lenient(name)
            .map_err(|error| format!("invalid federated trust domain: {name:?}: {error}"))?;
        federates_with.push(name);
    }
    let attributes = entry.additional_attributes.unwrap_or_default();
    Ok(EntryRecord {
        id: entry.id.clone(),
        spiffe_id,
        parent_id,
        selectors,
        x509_svid_ttl: entry.x509_svid_ttl,
        jwt_svid_ttl: entry.jwt_svid_ttl,
        federates_with,
        admin: entry.admin,
        downstream: entry.downstream,
        expires_at: entry.expires_at,
        dns_names: entry.dns_names.clone(),
        store_svid: entry.store_svid,
        hint: entry.hint.clone(),
        disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
        jwt_svid_include_jti: attributes.jwt_svid_include_jti,
        revision: 0,
        created_at: 0,
    })
}

/// The filter of a listing.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn list_filter(
    trust_domain: &TrustDomain,
    filter: Option<list_entries_request::Filter>,
) -> Result<EntryFilter, Status> {
    let Some(filter) = filter else { return Ok(EntryFilter::default()) };
    let parent_id = filter.by_parent_id.as_ref().map(|id| ids::member(trust_domain, Some(id))).transpose();
    let spiffe_id = filter.by_spiffe_id.as_ref().map(|id| ids::workload(trust_domain, Some(id))).transpose();
    Ok(EntryFilter {
        spiffe_id: spiffe_id.map_err(|error| status::invalid("malformed SPIFFE ID filter", error))?,
        parent_id: parent_id.map_err(|error| status::invalid("malformed parent ID filter", error))?,
        selectors: filter.by_selectors.map(|by| by_selectors(&by)).transpose()?,
        federates_with: filter.by_federates_with.map(|by| by_federates_with(&by)).transpose()?,
        hint: filter.by_hint,
        downstream: filter.by_downstream,
    })
}

/// The filter of a count: the same under another name.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn count_filter(
    trust_domain: &TrustDomain,
    filter: Option<count_entries_request::Filter>,
) -> Result<EntryFilter, Status> {
    let filter = filter.map(|filter| list_entries_request::Filter {
        by_spiffe_id: filter.by_spiffe_id,
        by_parent_id: filter.by_parent_id,
        by_selectors: filter.by_selectors,
        by_federates_with: filter.by_federates_with,
        by_hint: filter.by_hint,
        by_downstream: filter.by_downstream,
    });
    list_filter(trust_domain, filter)
}

fn by_selectors(by: &SelectorMatch) -> Result<(Match, Vec<Selector>), Status> {
    let selectors = selectors::from_proto(&by.selectors)
        .map_err(|error| status::invalid("malformed selectors filter", error))?;
    if selectors.is_empty() {
        return Err(status::invalid("malformed selectors filter", "empty selector set"));
    }
    Ok((selectors::comparison(by.r#match()), selectors))
}

fn by_federates_with(by: &FederatesWithMatch) -> Result<(Match, Vec<TrustDomain>), Status> {
    use federates_with_match::MatchBehavior;
    if by.trust_domains.is_empty() {
        return Err(status::invalid("malformed federates with filter", "empty trust domain set"));
    }
    let names = by
        .trust_domains
        .iter()
        .map(|name| TrustDomain::parse_lenient(name))
        .collect::<Result<_, _>>()
        .map_err(|error| status::invalid("malformed federates with filter", error))?;
    let how = match by.r#match() {
        MatchBehavior::MatchExact => Match::Exact,
        MatchBehavior::MatchSubset => Match::Subset,
        MatchBehavior::MatchSuperset => Match::Superset,
        MatchBehavior::MatchAny => Match::Any,
    };
    Ok((how, names))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use prost_reflect::{DescriptorPool, DynamicMessage, Value};

    use super::*;

    fn trust_domain() -> TrustDomain {
        TrustDomain::parse("demo.org").unwrap()
    }

    fn sent() -> types::Entry {
        let id = |path: &str| Some(types::Spiffeid { trust_domain: "demo.org".into(), path: path.into() });
        types::Entry {
            id: "one".into(),
            spiffe_id: id("/shop"),
            parent_id: id("/spire/agent/join_token/a"),
            selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:1000".into() }],
            x509_svid_ttl: 60,
            federates_with: vec!["other.org".into()],
            admin: true,
            downstream: true,
            expires_at: 9,
            dns_names: vec!["shop.local".into()],
            store_svid: true,
            jwt_svid_ttl: 30,
            hint: "internal".into(),
            additional_attributes: Some(AdditionalAttributes {
                disable_x509_svid_prefetch: true,
                jwt_svid_include_jti: true,
            }),
            ..types::Entry::default()
        }
    }

    #[test]
    fn an_entry_survives_the_trip() {
        let record = from_proto(&trust_domain(), &sent(), EntryMask::ALL).unwrap();
        assert_eq!(to_proto(&record), sent());
    }

    #[test]
    fn what_is_wrong_is_said_as_spire_says_it() {
        let refuse = |change: fn(&mut types::Entry)| {
            let mut entry = sent();
            change(&mut entry);
            from_proto(&trust_domain(), &entry, EntryMask::ALL).unwrap_err()
        };
        assert_eq!(
            refuse(|entry| entry.parent_id = None),
            "invalid parent ID: request must specify SPIFFE ID"
        );
        assert!(
            refuse(|entry| entry.spiffe_id = entry.parent_id.clone())
                .ends_with("path is in the reserved namespace")
        );
        assert_eq!(refuse(|entry| entry.selectors.clear()), "selector list is empty");
        assert_eq!(refuse(|entry| entry.selectors[0].r#type = "a:b".into()), "selector type contains ':'");
        assert_eq!(refuse(|entry| entry.selectors[0].value.clear()), "missing selector value");
        assert!(refuse(|entry| entry.dns_names[0] = "-".into()).starts_with("invalid DNS name: "));
        assert!(
            refuse(|entry| entry.federates_with[0] = "A".into())
                .starts_with("invalid federated trust domain: ")
        );
    }

    #[test]
    fn a_masked_update_needs_only_what_it_names() {
        let entry = types::Entry { id: "one".into(), hint: "x".into(), ..types::Entry::default() };
        let mask = input_mask(Some(&types::EntryMask { hint: true, ..types::EntryMask::default() }));
        assert_eq!(from_proto(&trust_domain(), &entry, mask).unwrap().hint, "x");
        assert!(from_proto(&trust_domain(), &entry, input_mask(None)).is_err());
    }

    /// Whatever fields the API has: a mask of one sends the ID and that one, and sets that one or nothing.
    #[test]
    fn a_mask_leaves_the_id_and_what_it_names() {
        let pool = DescriptorPool::decode(svidecar_api::SERVER_FILE_DESCRIPTOR_SET).unwrap();
        let described = |name: &str| pool.get_message_by_name(name).unwrap();
        let record = EntryRecord {
            revision: 3,
            created_at: 4,
            ..from_proto(&trust_domain(), &sent(), EntryMask::ALL).unwrap()
        };
        let mut all = EntryMask::default();
        for field in described("spire.api.types.EntryMask").fields() {
            let mut mask = DynamicMessage::new(described("spire.api.types.EntryMask"));
            mask.set_field(&field, Value::Bool(true));
            let mask: types::EntryMask = mask.transcode_to().unwrap();
            let masked = to_proto_masked(&record, Some(&mask));
            let mut masked_fields = DynamicMessage::new(described("spire.api.types.Entry"));
            masked_fields.transcode_from(&masked).unwrap();
            let names: Vec<_> = masked_fields.fields().map(|(field, _)| field.name().to_owned()).collect();
            assert_eq!(names, ["id", field.name()]);

            let chosen = input_mask(Some(&mask));
            let is_own = matches!(field.name(), "revision_number" | "created_at");
            assert_eq!(chosen == EntryMask::default(), is_own, "{}", field.name());
            (FIELDS.iter().filter(|known| (known.is_named)(&mask)))
                .for_each(|known| (known.choose)(&mut all));
        }
        assert_eq!(all, EntryMask::ALL);
    }
}
