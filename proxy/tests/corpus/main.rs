//! Whatever a peer sends: the properties that the fuzz targets hold to, for all bytes that were ever found interesting.
//!
//! A finding of `make fuzz` is copied into `proxy/fuzz/corpus` with its fix, and from then on is tried here.

#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing)]

use std::{fs, path::Path};

#[path = "../../fuzz/src/lib.rs"]
mod properties;

/// Tries all bytes that are kept for a target. The last name that is printed is that of the bytes that broke it.
fn replay(target: &str, property: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for file in fs::read_dir(&corpus).expect("each target has a corpus") {
        let path = file.expect("the corpus can be read").path();
        let bytes = fs::read(&path).expect("the corpus can be read");
        println!("{}", path.display());
        property(&bytes);
        count += 1;
    }
    assert!(count > 0, "{} is empty", corpus.display());
}

macro_rules! targets {
    ($($name:ident),+) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name), properties::$name);
        })+

        /// A target without a test, or the other way round.
        #[test]
        fn every_target_is_tried() {
            let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml");
            let manifest = fs::read_to_string(manifest).expect("the targets' manifest is there");
            let targets: Vec<_> = manifest.lines().filter_map(|line| line.strip_prefix("path = \"targets/")).collect();
            assert_eq!(targets, [$(concat!(stringify!($name), ".rs\"")),+]);
        }
    };
}

targets!(request_head, response_head, chunked, requests, frames, hpack, xfcc);
