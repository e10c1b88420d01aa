//! Conversations of two sessions.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use getty_core::{Close, CloseReason, Config, Event, IoFailure};
use testkit::Rng;
use testkit::pair::{Pair, Split, Wire};

use crate::common::{Plain, plain, secs, words};

const LATENCY: Duration = Duration::from_millis(20);

fn pair(wire: Wire) -> Pair<Plain> {
    Pair::new(plain(), plain(), Config::builder().build().unwrap()).wires(wire)
}

fn slow() -> Pair<Plain> {
    pair(Wire { latency: LATENCY, ..Wire::default() })
}

/// Makes both ends close once the peer has ended its stream, as listeners do by default.
fn closes_on_read_end(pair: &mut Pair<Plain>) {
    for end in [&mut pair.a, &mut pair.b] {
        end.on_event(|session, now, event| {
            if matches!(event, Event::Eof) {
                session.close(now, Close::graceful());
            }
        });
    }
}

fn told(events: &[(getty_core::Timestamp, Event<Bytes>)]) -> Vec<String> {
    events.iter().map(|(_, event)| words(event)).collect()
}

#[test]
fn one_side_closes_and_the_other_answers() {
    let mut pair = slow();
    closes_on_read_end(&mut pair);
    pair.a.session.send(Bytes::from("bye")).unwrap();
    pair.a.session.close(pair.clock.now(), Close::graceful());
    assert!(pair.run_until_closed(secs(1)));
    assert_eq!(pair.clock.elapsed(), 2 * LATENCY);
    assert_eq!(told(&pair.a.events), ["Open", "Closed: closed by this end"]);
    assert_eq!(told(&pair.b.events), ["Open", "Message bye", "Eof", "Closed: closed by the peer"]);
}

#[test]
fn after_one_sides_end_the_other_still_says_all_it_has() {
    let mut pair = pair(Wire { latency: LATENCY, capacity: 3000, split: Split::Every(700) });
    pair.b.on_event(|session, now, event| {
        if matches!(event, Event::Eof) {
            for n in 0..100 {
                session.send(Bytes::from(vec![n; 500])).unwrap();
            }
            session.close(now, Close::graceful());
        }
    });
    pair.a.session.close(pair.clock.now(), Close::graceful());
    assert!(pair.run_until_closed(secs(4)));
    assert_eq!(pair.a.session.stats().received.bytes, 50_400, "read and dropped");
    assert!(pair.b.close_reason().unwrap().is_clean());
}

#[test]
fn both_close_at_once_and_closes_cross_data() {
    let mut pair = slow();
    for end in [&mut pair.a, &mut pair.b] {
        end.session.send(Bytes::from("crossing")).unwrap();
        end.session.close(pair.clock.now(), Close::graceful());
    }
    assert!(pair.run_until_closed(secs(1)));
    for end in [&pair.a, &pair.b] {
        assert_eq!(told(&end.events), ["Open", "Closed: closed by this end"]);
        assert!(end.session.stats().progress.flushed.is_some());
    }
}

#[test]
fn a_cut_wire_ends_both_in_the_middle_of_frames() {
    let mut pair = pair(Wire { latency: LATENCY, capacity: 1000, split: Split::Every(300) });
    for end in [&mut pair.a, &mut pair.b] {
        end.session.send(Bytes::from(vec![0; 5000])).unwrap();
    }
    pair.run_for(3 * LATENCY);
    pair.cut();
    pair.settle();
    for end in [&pair.a, &pair.b] {
        assert!(matches!(
            end.close_reason(),
            Some(CloseReason::Io(IoFailure { kind: ErrorKind::BrokenPipe | ErrorKind::ConnectionReset, .. }))
        ));
        assert!(end.session.stats().progress.partly_written);
        assert!(matches!(end.events.last(), Some((_, Event::Closed(_)))));
    }
}

#[test]
fn an_abort_with_unread_data_resets_the_peer() {
    let mut pair = slow();
    pair.a.session.pause();
    pair.settle();
    pair.b.session.send(Bytes::from("nobody reads this")).unwrap();
    pair.run_for(2 * LATENCY);
    pair.a.session.close(pair.clock.now(), Close::abort());
    pair.settle();
    assert!(matches!(
        pair.b.close_reason(),
        Some(CloseReason::Io(IoFailure { kind: ErrorKind::ConnectionReset, .. }))
    ));
}

#[test]
fn a_peer_that_never_ends_its_side_is_left_after_the_close_timeout() {
    let mut pair = slow();
    pair.a.session.close(pair.clock.now(), Close::graceful());
    pair.run_for(secs(6));
    assert_eq!(told(&pair.b.events), ["Open", "Eof"]);
    let (at, Event::Closed(_)) = pair.a.events.last().unwrap() else { panic!() };
    assert_eq!(*at, pair.clock.at(secs(5)));
}

#[test]
fn the_same_seed_gives_the_same_conversation() {
    let run = |seed| {
        let mut pair =
            pair(Wire { latency: LATENCY, capacity: 700, split: Split::Random(Rng::new(seed), 90) });
        closes_on_read_end(&mut pair);
        for n in 0..20u8 {
            pair.a.session.send(Bytes::from(vec![n; usize::from(n) * 13])).unwrap();
            pair.b.session.send(Bytes::from(vec![n; usize::from(n) * 7])).unwrap();
        }
        pair.settle();
        pair.a.session.close(pair.clock.now(), Close::graceful());
        assert!(pair.run_until_closed(secs(5)));
        format!("{:?} {:?} {:?}", pair.a.events, pair.b.events, pair.a.session.stats())
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(1), run(2));
}
