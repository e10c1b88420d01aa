//! Calls in any order against the promises of a datagram session, and the saved inputs of its fuzzer.

use proptest::prelude::*;
use testkit::{corpus, packet_script};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_calls_keeps_the_promises(data in prop::collection::vec(any::<u8>(), 0..300)) {
        packet_script::run(&data);
    }

    /// Scripts of calls around the end of a session, which are rare in scripts of all calls.
    #[test]
    fn any_order_of_ends_keeps_the_promises(
        setup in prop::collection::vec(any::<u8>(), 3),
        ops in prop::collection::vec((prop::sample::select(vec![0u8, 5, 7, 10, 12, 13, 14, 16, 17, 18, 19, 19]), any::<u8>(), any::<u8>()), 0..40),
    ) {
        let ops = ops.into_iter().flat_map(|(op, a, b)| [op, a, b].into_iter().take(if [0, 5].contains(&op) { 3 } else { 2 }));
        packet_script::run(&setup.into_iter().chain(ops).collect::<Vec<_>>());
    }
}

#[test]
fn saved_inputs_of_the_fuzzer_pass() {
    corpus::replay("packets", packet_script::run);
}
