//! See [`svidecar_fuzz::frames`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| svidecar_fuzz::frames(data));
