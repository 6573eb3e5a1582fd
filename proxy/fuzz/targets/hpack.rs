//! See [`svidecar_fuzz::hpack`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| svidecar_fuzz::hpack(data));
