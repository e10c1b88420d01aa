#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| testkit::rpc_script::run(data));
