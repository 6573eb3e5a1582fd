//! Join tokens.

use std::sync::Arc;

use super::fixture::*;
use crate::store::*;

fn by(key: &str, at: i64) -> TokenUse {
    let agent = Some(id("/spire/agent/join_token/t"));
    TokenUse { agent, key_fingerprint: key.to_owned(), from: format!("10.0.0.{}", key.len()), at }
}

async fn put_token(f: &Fixture, expires_at: i64, reusable: bool) {
    let token = TokenRecord::new("name".to_owned(), expires_at, reusable);
    assert_eq!(f.store.create_token(token.clone(), None, NOW).await.unwrap(), None);
    assert_eq!(f.store.create_token(token, None, NOW).await.unwrap_err().code(), "already_exists");
}

pub async fn the_first_key_may_repeat_and_another_may_not(f: Fixture) {
    put_token(&f, NOW + 600, false).await;
    assert_eq!(f.store.consume_token("name", by("a", NOW)).await.unwrap(), Consumed::First);
    assert_eq!(f.store.consume_token("name", by("a", NOW + 1)).await.unwrap(), Consumed::Repeated);
    let refused = f.store.consume_token("name", by("bb", NOW + 2)).await.unwrap_err();
    let StoreError::TokenUsed { used_by, used_at, used_from } = refused else { panic!("{refused}") };
    assert_eq!((used_by.as_str(), used_at, used_from.as_str()), ("a", NOW, "10.0.0.1"));
    let known = f.store.get_token("name").await.unwrap().unwrap();
    assert_eq!(known.used, Some(by("a", NOW)));
}

pub async fn life_ends_for_everybody(f: Fixture) {
    put_token(&f, NOW + 600, false).await;
    assert_eq!(f.store.consume_token("name", by("a", NOW + 599)).await.unwrap(), Consumed::First);
    let late = f.store.consume_token("name", by("a", NOW + 600)).await.unwrap_err();
    assert!(matches!(late, StoreError::TokenExpired { expired_at } if expired_at == NOW + 600));
    let unknown = f.store.consume_token("other", by("a", NOW)).await.unwrap_err();
    assert!(matches!(unknown, StoreError::TokenUnknown));
    assert_eq!(f.store.prune_tokens(NOW + 600).await.unwrap(), 0);
    assert_eq!(f.store.prune_tokens(NOW + 601).await.unwrap(), 1);
    assert!(f.store.get_token("name").await.unwrap().is_none());
}

pub async fn of_many_keys_at_once_exactly_one_gets_in(f: Fixture) {
    put_token(&f, NOW + 600, false).await;
    let tries = (0..32).map(|n| {
        let store = Arc::clone(&f.store);
        async move { store.consume_token("name", by(&format!("key-{n}"), NOW)).await.is_ok() }
    });
    let won = futures_util::future::join_all(tries).await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}

pub async fn a_token_whose_alias_is_refused_is_not_there_either(f: Fixture) {
    let token = TokenRecord::new("t".to_owned(), NOW + 1, false);
    let refused = f.store.create_token(token, Some(entry("/a", &[])), NOW).await;
    assert!(refused.is_err());
    assert!(f.store.get_token("t").await.unwrap().is_none());
}

pub async fn a_reusable_token_takes_one_key_after_another_while_it_lives(f: Fixture) {
    put_token(&f, NOW + 600, true).await;
    let mut uses = Vec::new();
    for (key, at) in [("a", 0), ("bb", 1), ("bb", 2), ("a", 3)] {
        uses.push(f.store.consume_token("name", by(key, NOW + at)).await.unwrap());
    }
    let replaced = |key, at| Consumed::Replaced(by(key, NOW + at));
    assert_eq!(uses, [Consumed::First, replaced("a", 0), Consumed::Repeated, replaced("bb", 1)]);
    let late = f.store.consume_token("name", by("ccc", NOW + 600)).await.unwrap_err();
    assert_eq!(late.code(), "token_expired");
    assert_eq!(f.store.get_token("name").await.unwrap().unwrap().used, Some(by("a", NOW + 3)));
}

pub async fn tokens_are_listed_and_deleted_by_their_names(f: Fixture) {
    put_token(&f, NOW + 600, true).await;
    let listed = f.store.list_tokens().await.unwrap();
    let [token] = listed.as_slice() else { panic!("{} tokens", listed.len()) };
    assert_eq!((token.id.as_str(), token.reusable), ("name", true));
    assert!(f.store.delete_token("other").await.is_err_and(|error| error.code() == "not_found"));
    assert_eq!(f.store.delete_token(&token.id).await.unwrap(), *token);
    assert_eq!(f.store.consume_token("name", by("a", NOW)).await.unwrap_err().code(), "token_unknown");
}

/// Whoever deletes a token may take it that the agents that are there then are all.
pub async fn nobody_becomes_an_agent_by_a_token_that_is_deleted_after_its_use(f: Fixture) {
    put_token(&f, NOW + 600, false).await;
    let joining = agent("/spire/agent/join_token/secret");
    f.store.consume_token("name", by("a", NOW)).await.unwrap();
    f.store.delete_token("name").await.unwrap();
    let refused = f.store.put_agent(joining.clone(), Some(("name", "a"))).await.unwrap_err();
    assert_eq!(refused.code(), "token_unknown");
    assert!(f.store.get_agent(&joining.id).await.unwrap().is_none());

    put_token(&f, NOW + 600, false).await;
    f.store.consume_token("name", by("a", NOW)).await.unwrap();
    f.store.put_agent(joining.clone(), Some(("name", "a"))).await.unwrap();
    assert!(f.store.get_agent(&joining.id).await.unwrap().is_some());
}
