//! Any bytes for a WebSocket session, and the saved inputs of the fuzzers.

use proptest::prelude::*;
use testkit::corpus;
use testkit::websocket::frames::{BINARY, CONTINUATION, FIN, Frame};
use testkit::websocket::{deflate, differential, handshakes, script, streams};

fn any_bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

/// Three bytes for each frame, in the form of [`frames::spell`](testkit::websocket::frames::spell): most
/// frames are valid, and many have a size at some boundary.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let what =
        prop_oneof![10 => (0u8..12, 0u8..16).prop_map(|(what, more)| what | more << 4), 1 => any::<u8>()];
    let size = prop_oneof![
        2 => any::<u8>(),
        1 => prop::sample::select(vec![0u8, 1, 125, 126, 127, 236, 237, 238, 239, 240, 246, 255]),
    ];
    let wrong = prop_oneof![30 => Just(0u8), 1 => any::<u8>()];
    let frame = (what, size, wrong).prop_map(|(what, size, wrong)| [what, size, wrong]);
    prop::collection::vec(frame, 0..40).prop_map(|frames| frames.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_frames_give_the_same_however_they_are_cut(how: u8, data in frames()) {
        streams::run(&[&[how & !2], &data[..]].concat());
    }

    #[test]
    fn any_bytes_give_the_same_however_they_are_cut(how: u8, data in any_bytes(200)) {
        streams::run(&[&[how | 2], &data[..]].concat());
    }

    #[test]
    fn tungstenite_makes_the_same_of_any_frames(how: u8, data in frames()) {
        differential::run(&[&[how & !2], &data[..]].concat());
    }

    #[test]
    fn tungstenite_makes_the_same_of_any_bytes(how: u8, data in any_bytes(200)) {
        differential::run(&[&[how | 2], &data[..]].concat());
    }

    #[test]
    fn compressed_messages_come_as_they_were_sent(how: u8, data in any_bytes(60)) {
        deflate::run(&[&[how & !8], &data[..]].concat());
    }

    #[test]
    fn any_compressed_frames_give_the_same_however_they_are_cut(how: u8, data in any_bytes(60)) {
        deflate::run(&[&[how | 8], &data[..]].concat());
    }

    #[test]
    fn any_request_gives_the_same_however_it_is_cut(how: u8, data in any_bytes(24)) {
        handshakes::run_server(&[&[how], &data[..]].concat());
    }

    #[test]
    fn any_response_gives_the_same_however_it_is_cut(how: u8, data in any_bytes(24)) {
        handshakes::run_client(&[&[how], &data[..]].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_calls_keeps_the_promises(data in any_bytes(400)) {
        script::run(&data);
    }

    /// Scripts of calls around the end of a session, which are rare in scripts of all calls.
    #[test]
    fn any_order_of_ends_keeps_the_promises(
        setup in prop::collection::vec(any::<u8>(), 3),
        ops in prop::collection::vec((prop::sample::select(ENDS), 0u8..12, any::<u8>()), 0..40),
    ) {
        let ops = ops.into_iter().flat_map(|(op, a, b)| [op, a, b].into_iter().take(if op == 26 { 3 } else { 2 }));
        script::run(&setup.into_iter().chain(ops).collect::<Vec<_>>());
    }
}

/// The numbers of calls about the end, and of a few others, in a script.
const ENDS: &[u8] = &[1, 3, 6, 7, 10, 13, 15, 18, 20, 21, 24, 25, 26, 26, 26];

#[test]
fn tungstenite_has_the_same_borders() {
    for server in [true, false] {
        for sizes in
            [&[999][..], &[1000], &[1001], &[1000, 999], &[1000, 1000], &[1000, 1000, 0], &[1000, 1000, 1]]
        {
            let mut wire = Vec::new();
            for (n, &size) in sizes.iter().enumerate() {
                let opcode = if n == 0 { BINARY } else { CONTINUATION };
                let fin = if n + 1 == sizes.len() { FIN } else { 0 };
                let mask = server.then_some([1, 2, 3, 4]);
                Frame { first: opcode | fin, ..Frame::new(0, mask, vec![7; size]) }.write(&mut wire);
            }
            differential::check(server, &wire);
        }
    }
}

#[test]
fn saved_inputs_of_the_fuzzers_pass() {
    corpus::replay("websocket_server_handshake", handshakes::run_server);
    corpus::replay("websocket_client_handshake", handshakes::run_client);
    corpus::replay("websocket_frames", streams::run);
    corpus::replay("websocket_session", script::run);
    corpus::replay("websocket_deflate", deflate::run);
    corpus::replay("websocket_differential", differential::run);
}
