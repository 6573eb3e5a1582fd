//! The last time that was believed.

use svidecar_process::clock::Seen;

use super::fixture::*;

pub async fn the_last_time_that_was_believed_is_kept(f: Fixture) {
    assert_eq!(f.store.load_clock().await.unwrap(), None);
    for (at, boot) in [(1_790_000_000, "a"), (1_780_000_000, "b")] {
        let seen = Seen { at, boot: boot.to_owned(), up: 7 };
        f.store.save_clock(seen.clone()).await.unwrap();
        assert_eq!(f.store.load_clock().await.unwrap(), Some(seen));
    }
}
