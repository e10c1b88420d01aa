//! Calls in any order, faults of the wire and of the peer, against the promises of two RPC peers.

use proptest::prelude::*;
use testkit::{corpus, rpc_script};

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_calls_keeps_the_promises(data in prop::collection::vec(any::<u8>(), 0..300)) {
        rpc_script::run(&data);
    }

    /// Scripts of honest ends that are open.
    #[test]
    fn traffic_keeps_the_promises(
        setup in 128u8..,
        ops in prop::collection::vec((0u8..36, any::<[u8; 2]>()), 0..150),
    ) {
        let ops = ops.into_iter().flat_map(|(op, [a, b])| match op >> 1 {
            13.. => vec![op],
            6 | 9..=12 => vec![op, a],
            _ => vec![op, a, b],
        });
        rpc_script::run(&std::iter::once(setup).chain(ops).collect::<Vec<_>>());
    }
}

#[test]
fn saved_inputs_of_the_fuzzer_pass() {
    corpus::replay("rpc", rpc_script::run);
}
