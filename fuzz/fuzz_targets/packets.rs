#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| testkit::packet_script::run(data));
