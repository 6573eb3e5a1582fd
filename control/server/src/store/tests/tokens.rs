use super::*;

fn by(key: &str, at: i64) -> TokenUse {
    TokenUse { key_fingerprint: key.to_owned(), from: format!("10.0.0.{}", key.len()), at }
}

async fn with_token(expires_at: i64) -> Fixture {
    let f = fixture().await;
    let token = TokenRecord { token: "secret".to_owned(), expires_at, used: None };
    assert_eq!(f.store.create_token(token.clone(), None, NOW).await.unwrap(), None);
    assert_eq!(f.store.create_token(token, None, NOW).await.unwrap_err().code(), "already_exists");
    f
}

#[tokio::test]
async fn the_first_key_may_repeat_and_another_may_not() {
    let f = with_token(NOW + 600).await;
    assert!(f.store.consume_token("secret", by("a", NOW)).await.unwrap());
    assert!(!f.store.consume_token("secret", by("a", NOW + 1)).await.unwrap());
    let refused = f.store.consume_token("secret", by("bb", NOW + 2)).await.unwrap_err();
    let StoreError::TokenUsed { used_by, used_at, used_from } = refused else { panic!("{refused}") };
    assert_eq!((used_by.as_str(), used_at, used_from.as_str()), ("a", NOW, "10.0.0.1"));
    let known = f.store.get_token("secret").await.unwrap().unwrap();
    assert_eq!(known.used, Some(by("a", NOW)));
}

#[tokio::test]
async fn life_ends_for_everybody() {
    let f = with_token(NOW + 600).await;
    assert!(f.store.consume_token("secret", by("a", NOW + 599)).await.unwrap());
    let late = f.store.consume_token("secret", by("a", NOW + 600)).await.unwrap_err();
    assert!(matches!(late, StoreError::TokenExpired { expired_at } if expired_at == NOW + 600));
    let unknown = f.store.consume_token("other", by("a", NOW)).await.unwrap_err();
    assert!(matches!(unknown, StoreError::TokenUnknown));
    assert_eq!(f.store.prune_tokens(NOW + 600).await.unwrap(), 0);
    assert_eq!(f.store.prune_tokens(NOW + 601).await.unwrap(), 1);
    assert!(f.store.get_token("secret").await.unwrap().is_none());
}

#[tokio::test]
async fn of_many_keys_at_once_exactly_one_gets_in() {
    let f = with_token(NOW + 600).await;
    let tries = (0..32).map(|n| {
        let store = f.store.clone();
        async move { store.consume_token("secret", by(&format!("key-{n}"), NOW)).await.is_ok() }
    });
    let won = futures_util::future::join_all(tries).await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_token_whose_alias_is_refused_is_not_there_either() {
    let f = fixture().await;
    let token = TokenRecord { token: "t".to_owned(), expires_at: NOW + 1, used: None };
    let refused = f.store.create_token(token, Some(entry("/a", &[])), NOW).await;
    assert!(refused.is_err());
    assert!(f.store.get_token("t").await.unwrap().is_none());
}
