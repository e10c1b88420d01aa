//! Pings and pongs: replies to pings, pings of our own, and the end of a silent session.

use std::time::Duration;

use bytes::Buf;
use getty_core::websocket::{Message, ServerOptions};
use getty_core::{Close, CloseReason, Config, Deadline, Event};
use testkit::pair::Wire;
use testkit::websocket::peers::{Frame, Solo, client_request, config, pair};

const NONE: [&str; 0] = [];
const NS: Duration = Duration::from_nanos(1);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn both() -> [Solo; 2] {
    Solo::opened_both(|c| c)
}

/// Open sessions that send a ping every second.
fn beating() -> [Solo; 2] {
    Solo::opened_both(|c| c.heartbeat_period(secs(1)))
}

/// Returns the only frame that was sent, which must be a ping.
fn ping(solo: &mut Solo) -> Frame {
    let sent = solo.sent();
    assert!(matches!(&sent[..], [ping] if ping.opcode == 9 && ping.fin && ping.rsv == 0), "{sent:?}");
    sent[0].clone()
}

/// Sends the peer's reply to a ping.
fn answer(solo: &mut Solo, ping: Frame) {
    solo.peer(Frame::pong(ping.payload));
}

#[test]
fn every_ping_is_answered_with_its_payload() {
    for mut solo in both() {
        let pings: Vec<_> = (0..10).map(|n| Frame::ping(vec![b'0' + n; usize::from(n) * 13])).collect();
        let bytes = solo.peers(pings.clone());
        solo.input(&bytes);
        assert_eq!(solo.poll(), NONE);
        let pongs: Vec<_> = pings.into_iter().map(|ping| Frame::pong(ping.payload)).collect();
        assert_eq!(solo.sent(), pongs);
        assert_eq!(solo.session.stats().received.messages, 0, "a ping does not count as a message");
        assert_eq!(solo.session.stats().sent.messages, 0, "nor does a pong");
    }
}

#[test]
fn pings_within_a_message_are_answered_at_once() {
    for mut solo in both() {
        solo.peer(Frame::text("a").more());
        solo.peer(Frame::ping("?"));
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.sent(), [Frame::pong("?")]);
        solo.peer(Frame::continuation("b"));
        assert_eq!(solo.messages(), [Message::text("ab")]);
    }
}

/// Pongs and messages leave in the order in which they were queued.
#[test]
fn a_pong_waits_for_what_is_queued_before_it() {
    for mut solo in both() {
        solo.session.send(Message::text("a")).unwrap();
        solo.peer(Frame::ping("?"));
        assert_eq!(solo.poll(), NONE);
        solo.session.send(Message::text("b")).unwrap();
        assert_eq!(solo.sent(), [Frame::text("a"), Frame::pong("?"), Frame::text("b")]);
    }
}

/// An attack like CVE-2019-9512. tungstenite holds 232 MB after two million pings.
#[test]
fn a_flood_of_pings_whose_peer_never_reads_grows_nothing() {
    let low = Config::default().low_watermark();
    for mut solo in both() {
        for n in 0..20_000u32 {
            solo.peer(Frame::ping([&n.to_be_bytes(), &[7; 121][..]].concat()));
            assert_eq!(solo.poll(), NONE);
            assert!(solo.session.queued() <= low + 131, "{} bytes are queued", solo.session.queued());
        }
        assert!(solo.session.queued() > low && solo.session.is_open());
        let first = solo.sent();
        assert!(first.iter().zip(0u32..).all(|(pong, n)| pong.payload[..4] == n.to_be_bytes()));
        // The peer reads again, and gets a pong for the latest unanswered ping (section 5.5.3).
        assert_eq!(solo.poll(), NONE);
        let last = solo.sent();
        assert_eq!((last.len(), &last[0].payload[..4]), (1, &19_999u32.to_be_bytes()[..]));
        assert_eq!((solo.poll(), solo.sent()), (vec![], vec![]));
        solo.peer(Frame::ping("again"));
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.sent(), [Frame::pong("again")]);
    }
}

/// The transport takes a little now and then, and pongs stay in the order of their pings.
#[test]
fn a_pong_that_waited_is_not_sent_after_a_later_one() {
    for mut solo in Solo::opened_both(|c| c.watermarks(10, 1000)) {
        solo.session.send(Message::binary(vec![1; 50])).unwrap();
        solo.peer(Frame::ping("first"));
        assert_eq!(solo.poll(), NONE);
        let mut out = solo.session.outbound(solo.clock.now());
        let all = out.remaining();
        out.advance(all - 2);
        drop(out);
        solo.peer(Frame::ping("second"));
        assert_eq!(solo.session.poll_messages(&mut Vec::new(), 10), 0);
        assert_eq!(solo.poll(), NONE);
        let written = solo.written();
        let pongs = Frame::parse_all(&written[2..]).into_iter().map(|frame| frame.payload);
        assert!(pongs.eq([b"second"]), "one pong for both");
    }
}

#[test]
fn a_heartbeat_is_a_ping_each_period_and_tells_the_round_trip_time() {
    for mut solo in beating() {
        assert_eq!(solo.session.timeout_reason(), Some(Deadline::Heartbeat));
        let mut payloads = std::collections::BTreeSet::new();
        for second in 1..50 {
            assert_eq!(solo.at(secs(second) - NS), NONE);
            assert_eq!(solo.sent(), []);
            assert_eq!(solo.at(secs(second)), NONE);
            let ping = ping(&mut solo);
            assert!(payloads.insert(ping.payload.clone()), "each ping has its own payload");
            assert_eq!(solo.at(secs(second) + Duration::from_millis(20)), NONE);
            answer(&mut solo, ping);
            assert_eq!(solo.poll(), ["Pong 20ms"]);
        }
    }
}

#[test]
fn without_a_period_no_ping_is_sent() {
    for mut solo in both() {
        assert_eq!((solo.at(secs(100_000)), solo.sent()), (vec![], vec![]));
    }
}

#[test]
fn cron_stands_for_a_heartbeat_unless_there_is_one() {
    for mut solo in Solo::opened_both(|c| c.cron_period(secs(2))) {
        assert_eq!(solo.at(secs(2)), ["Cron"]);
        let sent = ping(&mut solo);
        answer(&mut solo, sent);
        assert_eq!(solo.at(secs(3)), ["Pong 1s"]);
        assert_eq!(solo.at(secs(4)), ["Cron"]);
        ping(&mut solo);
    }
    for mut solo in Solo::opened_both(|c| c.cron_period(secs(2)).heartbeat_period(secs(3))) {
        assert_eq!(solo.at(secs(2)), ["Cron"]);
        assert_eq!(solo.sent(), []);
        assert_eq!(solo.at(secs(3)), NONE);
        ping(&mut solo);
    }
}

#[test]
fn a_ping_that_is_not_answered_ends_the_session_after_exactly_ten_seconds() {
    for mut solo in Solo::opened_both(|c| c.heartbeat_period(secs(60))) {
        assert_eq!(solo.at(secs(60)), NONE);
        ping(&mut solo);
        assert_eq!(solo.session.timeout_reason(), Some(Deadline::Pong));
        assert_eq!(solo.session.poll_timeout(), Some(solo.clock.at(secs(70))));
        assert_eq!(solo.at(secs(70) - NS), NONE);
        solo.session.handle_timeout(solo.clock.at(secs(70)));
        assert!(matches!(solo.closed(), CloseReason::Timeout(Deadline::Pong)));
        assert_eq!(solo.sent(), []);
    }
}

#[test]
fn whatever_comes_is_as_good_as_a_pong() {
    for mut solo in Solo::opened_both(|c| c.heartbeat_period(secs(4))) {
        for second in 1..200 {
            assert_eq!(solo.at(secs(second)), NONE, "at {second}");
            if second % 9 == 0 {
                solo.peer(Frame::binary(vec![1; 3000]).more()); // a fragment is enough
                assert_eq!(solo.poll(), NONE);
                solo.peer(Frame::continuation(""));
                assert_eq!(solo.messages().len(), 1);
            }
            solo.sent();
        }
    }
}

/// After the peer's last byte, up to one period passes until the next ping, and then the time for its reply.
#[test]
fn a_peer_that_falls_silent_is_noticed_within_a_period_and_the_timeout() {
    for last in [1, 2500, 3000, 4100, 9999, 12_345] {
        for mut solo in Solo::opened_both(|c| c.heartbeat_period(secs(3))) {
            let last = Duration::from_millis(last);
            let mut now = Duration::ZERO;
            let closed = loop {
                let next = solo.session.poll_timeout().expect("there is a deadline");
                let next = next.saturating_duration_since(solo.clock.at(Duration::ZERO));
                if now < last && last <= next {
                    assert_eq!(solo.at(last), NONE);
                    solo.peer(Frame::text(""));
                    assert_eq!(solo.messages().len(), 1);
                    now = last;
                    continue;
                }
                assert!(next > now, "a deadline is still due");
                assert!(next < last + secs(60), "the silence is not noticed");
                now = next;
                let told = solo.at(now);
                solo.sent();
                if !told.is_empty() {
                    assert!(told[0].starts_with("Closed: timed out: the peer did not answer a ping"));
                    break now;
                }
            };
            assert!(closed - last <= secs(3 + 10), "{:?} after its last byte at {last:?}", closed - last);
            assert!(closed - last >= secs(10));
        }
    }
}

#[test]
fn without_a_pong_timeout_silence_is_no_fault() {
    for mut solo in Solo::opened_both(|c| c.heartbeat_period(secs(10)).pong_timeout(None)) {
        for second in 1..200 {
            assert_eq!(solo.at(secs(second)), NONE);
            solo.sent();
        }
    }
}

/// A round trip may take longer than the period between pings, and a peer may reply only to the latest one.
#[test]
fn an_answer_is_told_as_the_time_since_the_oldest_ping_without_one() {
    for mut solo in beating() {
        solo.peer(Frame::pong(""));
        solo.peer(Frame::pong([0; 8]));
        assert_eq!(solo.poll(), NONE, "no ping was sent");
        assert_eq!(solo.at(secs(1)), NONE);
        let first = ping(&mut solo);
        assert_eq!(solo.at(secs(2)), NONE);
        let second = ping(&mut solo);
        answer(&mut solo, first);
        assert_eq!(solo.poll(), ["Pong 1s"]);
        answer(&mut solo, second);
        assert_eq!(solo.poll(), NONE, "no ping was left without a reply");
        assert_eq!(solo.at(secs(3)), NONE);
        let third = ping(&mut solo);
        answer(&mut solo, third.clone());
        assert_eq!(solo.poll(), ["Pong 0ns"]);
        answer(&mut solo, third);
        assert_eq!(solo.poll(), NONE, "it was reported already");
    }
}

/// While this end does not read, silence is not the peer's fault.
#[test]
fn a_pause_suspends_the_wait_for_a_pong() {
    for mut solo in Solo::opened_both(|c| c.heartbeat_period(secs(60))) {
        assert_eq!(solo.at(secs(60)), NONE);
        let sent = ping(&mut solo);
        solo.session.pause();
        for second in 61..600 {
            assert_eq!(solo.at(secs(second)), NONE);
            solo.sent();
        }
        solo.session.resume(solo.clock.now());
        assert_eq!(solo.at(secs(601)), NONE);
        answer(&mut solo, sent);
        assert_eq!(solo.poll(), ["Pong 541s"], "late, but a sign of life");
        assert_eq!(solo.at(secs(609)), NONE);
    }
    for mut solo in Solo::opened_both(|c| c.heartbeat_period(secs(60))) {
        assert_eq!(solo.at(secs(60)), NONE);
        solo.session.pause();
        assert_eq!(solo.at(secs(65)), NONE);
        solo.session.resume(solo.clock.now());
        let closed: Vec<_> = (66..200).map(|second| (second, solo.at(secs(second)))).collect();
        let end = closed.iter().find(|(_, told)| !told.is_empty()).expect("the silence is noticed");
        assert!((75..=130).contains(&end.0), "{end:?}");
    }
}

/// If more is queued than the low watermark, a ping would be useless, and so would the wait for its reply.
#[test]
fn no_ping_is_added_to_a_jam() {
    for mut solo in Solo::opened_both(|c| c.heartbeat_period(secs(1)).watermarks(100, 200)) {
        solo.session.send(Message::binary(vec![1; 150])).unwrap();
        for second in 1..=20 {
            assert_eq!(solo.at(secs(second)), NONE);
        }
        assert_eq!(solo.sent().len(), 1, "only the message");
        assert_eq!(solo.at(secs(21)), NONE);
        ping(&mut solo);
    }
}

#[test]
fn no_ping_follows_a_close() {
    for mut solo in beating() {
        solo.session.close(solo.clock.now(), Close::graceful());
        assert_eq!(solo.sent(), [Frame::close(1000, "")]);
        for second in 1..5 {
            assert_eq!(solo.at(secs(second)), NONE);
        }
        solo.peer(Frame::ping("?"));
        assert_eq!((solo.poll(), solo.sent()), (vec![], vec![]));
    }
}

#[test]
fn two_sessions_keep_each_other_alive_for_an_hour() {
    let wire = Wire { latency: Duration::from_millis(30), ..Wire::default() };
    let beats = config(|c| c.heartbeat_period(secs(15)));
    let mut pair = pair(client_request(), ServerOptions::new(), beats).wires(wire);
    pair.run_for(secs(3600));
    for end in [&pair.a, &pair.b] {
        let pongs: Vec<_> = end
            .events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Pong { rtt } => Some(*rtt),
                _ => None,
            })
            .collect();
        assert!((238..=240).contains(&pongs.len()), "{} pongs", pongs.len());
        assert!(pongs.iter().all(|rtt| *rtt == Duration::from_millis(60)), "{pongs:?}");
        assert!(end.session.is_open());
    }
    pair.a.transport = false; // bytes vanish
    pair.run_for(secs(26));
    assert!(matches!(pair.b.close_reason(), Some(CloseReason::Timeout(Deadline::Pong))));
}
