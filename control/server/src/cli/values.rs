//! How values are written on the command line and in what is printed.

use clap::ValueEnum;
use svidecar_api::spire::api::types::{self, federates_with_match, selector_match};
use svidecar_config::HumanDuration;
use svidecar_id::SpiffeId;

use super::error::CliError;

/// A number of seconds: SPIRE's `600`, or `10m`.
pub(super) fn seconds(text: &str) -> Result<i32, String> {
    if let Ok(seconds) = text.parse::<i32>() {
        return if seconds < 0 {
            Err("a positive number of seconds is required".to_owned())
        } else {
            Ok(seconds)
        };
    }
    let duration: HumanDuration =
        text.parse().map_err(|_| format!("`{text}` is neither seconds nor a duration like 10m"))?;
    whole_seconds(duration).ok_or_else(|| format!("`{text}` is too long"))
}

/// Seconds, rounded up.
pub(super) fn whole_seconds(duration: HumanDuration) -> Option<i32> {
    let duration = duration.get();
    i32::try_from(duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).ok()
}

/// `type:value`.
pub(super) fn selector(text: &str) -> Result<types::Selector, CliError> {
    let (kind, value) = text
        .split_once(':')
        .ok_or_else(|| CliError::Message(format!("selector \"{text}\" must be formatted as type:value")))?;
    Ok(types::Selector { r#type: kind.to_owned(), value: value.to_owned() })
}

pub(super) fn selectors(list: &[String]) -> Result<Vec<types::Selector>, CliError> {
    list.iter().map(|text| selector(text)).collect()
}

/// A SPIFFE ID as it travels.
pub(super) fn spiffe_id(text: &str) -> Result<types::Spiffeid, CliError> {
    let id = SpiffeId::parse(text)
        .map_err(|error| CliError::Message(format!("`{text}` is not a SPIFFE ID: {error}")))?;
    Ok((&id).into())
}

/// A SPIFFE ID that the server sent, as text.
pub(super) fn id_text(id: Option<&types::Spiffeid>) -> String {
    id.map(|id| format!("spiffe://{}{}", id.trust_domain, id.path)).unwrap_or_default()
}

/// The message for two flags; none when both have their default, as SPIRE does it.
pub(super) fn additional_attributes(
    disable_x509_svid_prefetch: bool,
    jwt_svid_include_jti: bool,
) -> Option<types::AdditionalAttributes> {
    let attributes = types::AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti };
    (attributes != types::AdditionalAttributes::default()).then_some(attributes)
}

/// How a filter compares sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum MatchMode {
    /// The same, no more and no less
    Exact,
    /// Something of what is asked for
    Any,
    /// All that is asked for, and maybe more
    #[default]
    Superset,
    /// Nothing but what is asked for
    Subset,
}

impl MatchMode {
    pub(super) fn of_selectors(self, selectors: Vec<types::Selector>) -> types::SelectorMatch {
        use selector_match::MatchBehavior;
        let how = match self {
            Self::Exact => MatchBehavior::MatchExact,
            Self::Any => MatchBehavior::MatchAny,
            Self::Superset => MatchBehavior::MatchSuperset,
            Self::Subset => MatchBehavior::MatchSubset,
        };
        types::SelectorMatch { selectors, r#match: how.into() }
    }

    pub(super) fn of_trust_domains(self, trust_domains: Vec<String>) -> types::FederatesWithMatch {
        use federates_with_match::MatchBehavior;
        let how = match self {
            Self::Exact => MatchBehavior::MatchExact,
            Self::Any => MatchBehavior::MatchAny,
            Self::Superset => MatchBehavior::MatchSuperset,
            Self::Subset => MatchBehavior::MatchSubset,
        };
        types::FederatesWithMatch { trust_domains, r#match: how.into() }
    }
}

/// A time as Go prints it, in UTC: `2019-01-15 10:13:17 +0000 UTC`.
pub(super) fn time(unix_seconds: i64) -> String {
    match jiff::Timestamp::from_second(unix_seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => unix_seconds.to_string(),
    }
}

/// A time as RFC 3339 has it.
pub(super) fn rfc3339(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds)
        .map_or_else(|_| unix_seconds.to_string(), |time| time.to_string())
}

/// `1 entry`, `2 entries`.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_numbers_or_durations() {
        assert_eq!(seconds("600"), Ok(600));
        assert_eq!(seconds("10m"), Ok(600));
        assert_eq!(seconds("1500ms"), Ok(2));
        assert!(seconds("-1").is_err_and(|text| text.contains("positive")));
        assert!(seconds("soon").is_err());
        assert!(seconds("99999999999").is_err());
    }

    #[test]
    fn a_selector_is_split_at_the_first_colon() {
        let found = selector("docker:label:a:b").unwrap();
        assert_eq!((found.r#type.as_str(), found.value.as_str()), ("docker", "label:a:b"));
        assert_eq!(
            selector("docker").unwrap_err().to_string(),
            "selector \"docker\" must be formatted as type:value"
        );
    }

    #[test]
    fn times_are_printed_as_go_does() {
        assert_eq!(time(1_547_547_197), "2019-01-15 10:13:17 +0000 UTC");
        assert_eq!(rfc3339(1_547_547_197), "2019-01-15T10:13:17Z");
    }
}
