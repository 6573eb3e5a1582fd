//! A clock that is wrong for a while, and what of the CA is left when it is right again.

use super::*;

/// A time that the server does not believe.
fn doubtful(now: UnixTime) -> Moment {
    Moment { now, is_certain: false }
}

/// The clock is 26 hours ahead for some seconds: nothing of the CA is gone, and all sign and are accepted as before.
#[tokio::test]
async fn a_clock_that_was_ahead_costs_neither_keys_nor_trust() {
    let server = Server::new();
    for hour in [0, 5, 13, 21] {
        let ca = server.open(at(hour)).await.unwrap();
        let (ids, keys) = (ca.ids(), server.key_files());
        let (before, bundle) = (ca.sign(at(hour)), ca.published().await);
        ca.tick(doubtful(at(hour + 26))).await.unwrap();
        // It goes on to sign meanwhile, for whoever has that time too.
        assert!(accepted(&ca.sign(at(hour + 26)), &ca.published().await, at(hour + 26)), "hour {hour}");

        ca.tick(at(hour)).await.unwrap();
        assert!(keys.iter().all(|key| server.key_files().contains(key)), "a key is gone, hour {hour}");
        if hour != 13 {
            assert_eq!(ca.ids(), ids, "hour {hour}");
        }
        let after = ca.sign(at(hour));
        assert_eq!(after.0.not_after, at(hour + 1), "full life at {hour}");
        assert!(accepted(&after, &bundle, at(hour)), "who has not heard of it notices nothing, hour {hour}");
        assert!(accepted(&before, &ca.published().await, at(hour)), "hour {hour}");
        let chain = ca.identity().unwrap().cert.clone();
        assert!(verify_peer(&chain, &bundle, at(hour)).is_ok(), "the server's own SVID, hour {hour}");
        ca.prove(at(hour)).unwrap();
    }
}

/// The same when the server is started anew in between.
#[tokio::test]
async fn a_restart_while_the_clock_is_ahead_costs_nothing_either() {
    let server = Server::new();
    let ca = server.open(at(3)).await.unwrap();
    let (ids, bundle) = (ca.ids(), ca.published().await);
    drop(ca);
    drop(server.open(doubtful(at(29))).await.unwrap());
    let ca = server.open(doubtful(at(29))).await.unwrap();
    assert_ne!(ca.ids(), ids);
    drop(ca);
    let ca = server.open(at(3)).await.unwrap();
    assert_eq!(ca.ids(), ids);
    assert!(accepted(&ca.sign(at(3)), &bundle, at(3)));
}

/// No battery: the machine begins in 1970, and the network sets its clock.
#[tokio::test]
async fn a_start_in_1970_is_over_when_the_clock_is_set() {
    let server = Server::new();
    let ca = server.open(at(2)).await.unwrap();
    let (ids, bundle) = (ca.ids(), ca.published().await);
    drop(ca);
    let ca = server.open(doubtful(from_secs(100))).await.unwrap();
    assert!(accepted(&ca.sign(from_secs(100)), &ca.published().await, from_secs(100)));
    ca.tick(at(2)).await.unwrap();
    assert_eq!(ca.ids(), ids);
    assert!(accepted(&ca.sign(at(2)), &bundle, at(2)));
}

#[tokio::test]
async fn a_clock_that_was_set_back_and_forward_again_leaves_the_authority_that_was() {
    let server = Server::new();
    let ca = server.open(at(100)).await.unwrap();
    let (ids, bundle) = (ca.ids(), ca.published().await);
    ca.tick(doubtful(at(70))).await.unwrap();
    assert_ne!(ca.ids(), ids);
    assert!(accepted(&ca.sign(at(70)), &ca.published().await, at(70)));
    ca.tick(at(100)).await.unwrap();
    assert_eq!(ca.ids(), ids);
    assert!(accepted(&ca.sign(at(100)), &bundle, at(100)));
}

/// What is replaced keeps its key until its certificate has ended, and not longer.
#[tokio::test]
async fn an_old_key_stays_until_its_certificate_has_ended_at_a_time_that_is_certain() {
    let server = Server::new();
    let ca = server.open(at(0)).await.unwrap();
    let (root, _) = ca.ids();
    let file = format!("x509-{root}.pem");
    ca.tick(at(12)).await.unwrap();
    ca.tick(at(20)).await.unwrap();
    assert_ne!(ca.ids().0, root);
    ca.tick(from_secs(START + 24 * HOUR - 1)).await.unwrap();
    assert!(server.key_files().contains(&file));
    ca.tick(doubtful(at(500))).await.unwrap();
    assert!(server.key_files().contains(&file), "nothing is deleted at a time that may be wrong");
    ca.tick(at(24)).await.unwrap();
    assert!(!server.key_files().contains(&file));
}

/// Its key may be known to others. No clock brings it back, with or without a start in between.
#[tokio::test]
async fn an_authority_that_was_tainted_or_revoked_never_signs_again() {
    for kind in [Kind::X509, Kind::Jwt] {
        for change in [Change::Taint, Change::Revoke] {
            let server = Server::new();
            let ca = server.open(at(0)).await.unwrap();
            let by_hand = async |change| ca.change(kind, change, at(5).into()).await.unwrap();
            let before = ca.states(kind).await.active.unwrap().id;
            let next = by_hand(Change::Prepare).await.id;
            by_hand(Change::Activate(next)).await;
            by_hand(change(before.clone())).await;
            // At this time the one of now is none yet, and the one of before was the one that signed.
            ca.tick(at(1)).await.unwrap();
            assert_ne!(ca.states(kind).await.active.unwrap().id, before, "{kind:?}");
            drop(ca);
            let ca = server.open(at(1)).await.unwrap();
            assert_ne!(ca.states(kind).await.active.unwrap().id, before, "{kind:?}");
        }
    }
}
