//! Calls in any order against the promises of a session, and the saved inputs of the fuzzers.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use testkit::{script, split};

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_calls_keeps_the_promises(data in prop::collection::vec(any::<u8>(), 0..400)) {
        script::run(&data);
    }

    /// Nothing of what happens at the end is likely in a long script of everything.
    #[test]
    fn any_order_of_ends_keeps_the_promises(
        setup in prop::collection::vec(any::<u8>(), 2),
        ops in prop::collection::vec((prop::sample::select(vec![0u8, 4, 6, 10, 13, 16, 18, 19, 21, 23, 23, 23]), 0u8..12, any::<u8>()), 0..40),
    ) {
        let ops = ops.into_iter().flat_map(|(op, a, b)| [op, a, b].into_iter().take(if op == 23 { 3 } else { 2 }));
        script::run(&setup.into_iter().chain(ops).collect::<Vec<_>>());
    }
}

/// A fuzz target's corpus is in the folder of its name.
#[test]
fn saved_inputs_of_the_fuzzers_pass() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for target in ["session", "length_delimited", "delimited", "lines", "fixed_length", "raw"] {
        let mut files = 0;
        for file in fs::read_dir(corpus.join(target)).unwrap() {
            files += 1;
            let path = file.unwrap().path();
            println!("{}", path.display());
            let data = fs::read(path).unwrap();
            if target == "session" { script::run(&data) } else { split::run(target, &data) }
        }
        assert!(files > 0, "nothing is saved for {target}");
    }
}
