//! See [`svidecar_fuzz::chunked`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| svidecar_fuzz::chunked(data));
