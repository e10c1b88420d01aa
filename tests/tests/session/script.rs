//! Calls in any order against the promises of a session, and the saved inputs of the fuzzers.

use proptest::prelude::*;
use testkit::{corpus, script, split};

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_calls_keeps_the_promises(data in prop::collection::vec(any::<u8>(), 0..400)) {
        script::run(&data);
    }

    /// Scripts of calls around the end of a session, which are rare in scripts of all calls.
    #[test]
    fn any_order_of_ends_keeps_the_promises(
        setup in prop::collection::vec(any::<u8>(), 2),
        ops in prop::collection::vec((prop::sample::select(vec![0u8, 4, 6, 10, 13, 16, 18, 19, 21, 23, 23, 23]), 0u8..12, any::<u8>()), 0..40),
    ) {
        let ops = ops.into_iter().flat_map(|(op, a, b)| [op, a, b].into_iter().take(if op == 23 { 3 } else { 2 }));
        script::run(&setup.into_iter().chain(ops).collect::<Vec<_>>());
    }
}

#[test]
fn saved_inputs_of_the_fuzzers_pass() {
    corpus::replay("session", script::run);
    for codec in ["length_delimited", "delimited", "lines", "fixed_length", "raw"] {
        corpus::replay(codec, |data| split::run(codec, data));
    }
}
