//! See [`svidecar_fuzz::requests`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| svidecar_fuzz::requests(data));
