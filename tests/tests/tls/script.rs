//! Calls in any order, and damage to the wire, against the promises of sessions over TLS.

use proptest::prelude::*;
use testkit::{corpus, tls_script};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_calls_keeps_the_promises(data in prop::collection::vec(any::<u8>(), 0..120)) {
        tls_script::run(&data);
    }

    /// Scripts of open sessions, with little damage.
    #[test]
    fn traffic_keeps_the_promises(
        fragments in any::<bool>(),
        ops in prop::collection::vec((0u8..24, any::<u8>()), 0..100),
    ) {
        let setup = 2 | u8::from(fragments);
        let ops = ops.into_iter().flat_map(|(op, size)| [op, size].into_iter().take(if op < 6 || op >> 1 == 4 { 2 } else { 1 }));
        tls_script::run(&std::iter::once(setup).chain(ops).collect::<Vec<_>>());
    }
}

#[test]
fn saved_inputs_of_the_fuzzer_pass() {
    corpus::replay("tls", tls_script::run);
}
