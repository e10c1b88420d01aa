#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| testkit::tls_script::run(data));
