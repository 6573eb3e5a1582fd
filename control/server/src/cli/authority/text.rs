//! How authorities and bootstrap keys are shown to people.

use std::fmt::Write as _;

use svidecar_api::{
    spire::api::server::localauthority::v1::AuthorityState, svidecar::server::v1::BootstrapKey,
};

use crate::cli::values;

/// One authority.
pub(super) fn authority(state: &AuthorityState) -> String {
    format!("  Authority ID: {}\n  Expires at: {}", state.authority_id, values::time(state.expires_at))
}

/// Those of a kind, as SPIRE shows them.
pub(super) fn authorities(
    active: &Option<AuthorityState>,
    prepared: &Option<AuthorityState>,
    old: &Option<AuthorityState>,
) -> String {
    let mut text = String::new();
    for (title, state) in [("Active", active), ("Prepared", prepared), ("Old", old)] {
        let shown = state.as_ref().map_or_else(|| "  none".to_owned(), authority);
        // A string takes all that is written to it.
        let _ = writeln!(text, "{title} authority:\n{shown}\n");
    }
    text.trim_end().to_owned()
}

/// Bootstrap keys, with the hashes that tokens carry.
pub(super) fn keys(keys: &[BootstrapKey]) -> String {
    let shown = keys.iter().map(|key| {
        format!(
            "Key (SHA-256)     : {}\nCreated           : {}\nIn new tokens     : {}",
            key.sha256,
            values::time(key.created_at),
            key.current
        )
    });
    shown.collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_not_is_said_too() {
        let active = Some(AuthorityState { authority_id: "ab12".to_owned(), ..AuthorityState::default() });
        let shown = authorities(&active, &None, &None);
        assert!(
            shown.starts_with("Active authority:\n  Authority ID: ab12\n  Expires at: 1970-01-01"),
            "{shown}"
        );
        assert!(shown.ends_with("Old authority:\n  none"), "{shown}");
    }

    #[test]
    fn a_key_is_shown_with_the_hash_that_tokens_carry() {
        let key = BootstrapKey { sha256: "ab12".to_owned(), created_at: 0, current: true };
        let shown = keys(&[key]);
        assert!(shown.contains("ab12") && shown.contains("1970-01-01") && shown.contains("true"), "{shown}");
    }
}
