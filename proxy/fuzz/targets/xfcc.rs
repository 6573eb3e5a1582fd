//! See [`svidecar_fuzz::xfcc`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| svidecar_fuzz::xfcc(data));
