//! Calls in any order against the promises of a table of peers, and the saved inputs of its fuzzer.

use proptest::prelude::*;
use testkit::{corpus, peers_script};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_calls_keeps_the_promises(data in prop::collection::vec(any::<u8>(), 0..400)) {
        peers_script::run(&data);
    }

    /// Small steps in which peers come and go, which are rare in scripts of all calls.
    #[test]
    fn any_order_of_ends_keeps_the_promises(
        setup in prop::collection::vec(any::<u8>(), 3),
        ops in prop::collection::vec((prop::sample::select(vec![0u8, 1, 5, 5, 7, 8, 9, 10, 14, 15, 16, 18]), any::<u8>(), any::<u8>()), 0..80),
    ) {
        // Each operation takes its own number of bytes.
        let ops = ops.into_iter().flat_map(|(op, a, b)| [op, a, b].into_iter().take(if [0, 1, 8, 16].contains(&op) { 3 } else { 2 }));
        peers_script::run(&setup.into_iter().chain(ops).collect::<Vec<_>>());
    }
}

#[test]
fn saved_inputs_of_the_fuzzer_pass() {
    corpus::replay("peers", peers_script::run);
}
