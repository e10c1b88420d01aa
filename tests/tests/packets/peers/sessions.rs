//! A session for each peer of a datagram socket, as its embedder sees it.

use getty_core::datagram::PeerLimits;
use getty_core::{Close, Idle};

use crate::peers_common::{Host, NONE, batch, bytes, millis, path, secs};

#[test]
fn each_peer_has_events_of_its_own_in_order() {
    let mut host = Host::new();
    let datagrams = [(1, &b"a"[..]), (2, b"b"), (1, b"c"), (3, b"d"), (2, b"e")];
    host.peers.handle_datagrams(host.clock.now(), batch(datagrams)).unwrap();
    assert_eq!(
        host.echo(),
        ["1?", "1 Open", "1 a", "2?", "2 Open", "2 b", "1 c", "3?", "3 Open", "3 d", "2 e"]
    );
    let answers = [(1, "a"), (2, "b"), (1, "c"), (3, "d"), (2, "e")];
    assert_eq!(host.flush(), answers.map(|(port, text)| (port, text.to_owned())));
    assert!(host.peers.take_batch().is_some());
    assert_eq!(host.peers.len(), 3);
    assert_eq!(host.peers.path(host.key(2)), Some(path(2)));
}

#[test]
fn who_is_not_wanted_is_asked_about_each_time() {
    let mut host = Host::new();
    host.unwanted = vec![1];
    assert_eq!(host.told(1, "a"), ["1?", "Dropped 1: its peer was not admitted"]);
    assert_eq!(host.told(1, "a"), ["1?"]);
    host.unwanted.clear();
    assert_eq!(host.told(1, "b"), ["1?", "1 Open", "1 b"]);
    assert_eq!(host.peers.dropped().strangers, 2);
}

#[test]
fn batches_of_messages_are_of_one_peer() {
    let mut host = Host::new();
    host.told(1, "a");
    host.told(2, "a");
    let datagrams = [(1, &b"b"[..]), (1, b"c"), (2, b"d"), (1, b"e")];
    host.peers.handle_datagrams(host.clock.now(), batch(datagrams)).unwrap();
    assert_eq!(host.peers.poll_message(host.key(2)), None, "another peer's message is first");
    assert_eq!(host.peers.poll_message(host.key(1)).unwrap(), "b");
    assert_eq!(host.peers.poll_message(host.key(1)).unwrap(), "c");
    assert_eq!(host.peers.poll_message(host.key(1)), None, "another peer's message is next");
    assert_eq!(host.poll(), ["2 d", "1 e"]);
}

#[test]
fn statistics_and_progress_are_each_peer_s_own() {
    let mut host = Host::new();
    for (port, text) in [(1, "abc"), (2, "d"), (1, "ef")] {
        host.told(port, text);
    }
    for port in [1, 2, 2, 1, 2] {
        host.send(port, "answer");
    }
    let stats = |host: &Host, port: u16| {
        let stats = host.peers.stats(host.key(port));
        let seq = |seq: Option<getty_core::Seq>| seq.map_or(0, getty_core::Seq::get);
        let progress = (seq(stats.progress.accepted), seq(stats.progress.flushed));
        (stats.received.messages, stats.received.bytes, stats.sent.bytes, progress)
    };
    assert_eq!((stats(&host, 1), stats(&host, 2)), ((2, 5, 0, (2, 0)), (1, 1, 0, (3, 0))));
    assert_eq!(host.peers.notify_flushed(host.key(1)).unwrap().get(), 2);
    host.sent(3);
    assert_eq!((stats(&host, 1), stats(&host, 2)), ((2, 5, 6, (2, 1)), (1, 1, 12, (3, 2))));
    assert_eq!(host.poll(), NONE);
    host.sent(1);
    assert_eq!(host.poll(), ["1 Flushed 2"]);
    host.flush();
    host.peers.notify_flushed(host.key(2));
    assert_eq!(host.poll(), ["2 Flushed 3"]);
}

#[test]
fn each_peer_has_periods_of_its_own_and_traffic_moves_no_deadline() {
    let mut host = Host::with(|config| config.cron_period(secs(30)).idle_read(secs(10)));
    host.told(1, "a");
    host.at(secs(5));
    host.told(2, "a");
    let deadline = host.peers.poll_timeout();
    assert!(deadline.is_some());
    for n in 0..400 {
        host.clock.advance(millis(10));
        host.receive(1, "more");
        host.echo();
        host.flush();
        assert_eq!(host.peers.poll_timeout(), deadline, "after {n} datagrams");
    }
    // The first peer was active at 9 s, the second at 5 s.
    assert_eq!(host.at(millis(14_900)), NONE);
    assert_eq!(host.at(millis(15_200)), ["2 Idle::Read"]);
    assert_eq!(host.at(millis(18_900)), NONE);
    assert_eq!(host.at(millis(19_200)), ["1 Idle::Read"]);
    assert_eq!(host.at(millis(29_900)), NONE, "idle is reported once");
    assert_eq!(host.at(millis(30_200)), ["1 Cron"]);
    assert_eq!(host.at(millis(35_200)), ["2 Cron"]);
    host.told(2, "a");
    assert_eq!(host.at(millis(45_500)), ["2 Idle::Read"]);
}

#[test]
fn a_sign_of_life_postpones_only_who_gave_it() {
    let mut host = Host::with(|config| config.idle_both(secs(10)));
    host.told(1, "a");
    host.told(2, "a");
    host.at(millis(9900));
    host.send(1, "b");
    host.flush();
    assert_eq!(host.at(millis(10_200)), ["2 Idle::Both"]);
    assert_eq!(host.at(millis(20_200)), ["1 Idle::Both"]);
}

#[test]
fn a_peer_with_whom_nothing_moves_is_closed_alone() {
    let mut host = Host::with(|config| config.idle_timeout(secs(10)));
    host.told(1, "a");
    host.told(2, "a");
    host.at(millis(9900));
    host.send(1, "b");
    host.flush();
    let idle = "timed out: nothing was received or sent (Config::idle_timeout)";
    assert_eq!(host.at(millis(10_200)), [format!("2 Closed: {idle}")]);
    assert_eq!(host.told(2, "again"), ["2?", "2 Open", "2 again"]);
    assert_eq!(host.at(millis(20_150)), [format!("1 Closed: {idle}")]);
}

#[test]
fn a_graceful_close_sends_what_was_accepted() {
    let mut host = Host::new();
    host.told(1, "a");
    host.told(2, "a");
    for port in [1, 2, 1] {
        host.send(port, "last");
    }
    host.close_peer(1, Close::graceful());
    let old = host.key(1);
    assert!(!host.peers.is_open(old));
    assert!(host.peers.send(old, bytes("more")).is_err());
    assert_eq!(host.told(1, "b"), ["1?", "1 Open", "1 b"], "a datagram after the close starts a new peer");
    assert_ne!(host.key(1), old);
    host.sent(2);
    assert_eq!(host.poll(), NONE);
    host.sent(1);
    assert_eq!(host.poll(), ["1 Closed: closed by this end"]);
    assert_eq!(host.told(1, "c"), ["1 c"]);
}

#[test]
fn an_abort_ends_at_once() {
    let mut host = Host::with(|config| config.cron_period(secs(1)));
    host.told(1, "a");
    host.send(1, "queued");
    host.peers.notify_flushed(host.key(1));
    host.peers.handle_timeout(host.clock.at(secs(2)));
    host.close_peer(1, Close::abort());
    assert_eq!(host.poll(), ["1 Closed: closed by this end, not everything was sent"]);
    assert_eq!(host.told(1, "b"), ["1?", "1 Open", "1 b"]);
    host.flush();
    assert_eq!(host.poll(), NONE, "the datagram was the old peer's");
    assert_eq!(host.peers.stats(host.key(1)).sent.bytes, 0);
}

#[test]
fn a_peer_that_is_closed_before_its_first_message_was_open() {
    let mut host = Host::new();
    host.receive(1, "a");
    assert_eq!(host.next().unwrap(), "1?");
    host.close_peer(1, Close::idle(Idle::Read));
    assert_eq!(host.poll(), ["1 Open", "1 Closed: timed out: nothing was received (Config::idle_read)"]);
}

#[test]
fn a_pause_drops_and_counts_and_blames_nobody() {
    let mut host = Host::with(|config| config.idle_read(secs(10)));
    host.told(1, "a");
    host.told(2, "a");
    host.peers.pause(host.key(1));
    host.receive(1, "b");
    host.receive(2, "b");
    assert_eq!(host.poll(), ["2 b", "Dropped 1: its peer's session is paused"]);
    assert_eq!(host.at(millis(10_200)), ["2 Idle::Read"]);
    host.at(secs(15));
    host.peers.resume(host.clock.now(), host.key(1));
    assert_eq!(host.at(millis(24_900)), NONE);
    assert_eq!(host.at(millis(25_500)), ["1 Idle::Read"]);
    assert_eq!(host.told(1, "c"), ["1 c"]);
    assert_eq!(host.peers.dropped().paused, 1);
}

#[test]
fn the_close_of_everything_is_told_to_all() {
    let mut host = Host::with(|config| config.close_timeout(secs(5)));
    for port in [1, 2, 3] {
        host.told(port, "a");
    }
    host.send(2, "last");
    host.receive(3, "not looked at");
    host.close(Close::graceful());
    assert_eq!(host.poll(), ["1 Closed: closed by this end", "3 Closed: closed by this end"]);
    assert!(!host.peers.wants_read() && !host.peers.is_closed());
    assert!(host.peers.handle_datagrams(host.clock.now(), batch([(1, &b"x"[..])])).is_err());
    assert_eq!(host.at(millis(4900)), NONE);
    let late = "timed out: the close was not done in time (Config::close_timeout)";
    assert_eq!(host.at(secs(5)), [format!("2 Closed: {late}"), format!("Closed: {late}")]);
    assert!(host.peers.is_closed() && !host.peers.wants_write());
    assert_eq!(host.peers.poll_timeout(), None);
}

#[test]
fn back_pressure_is_released_and_told_to_those_who_were_refused() {
    let mut host = Host::limited(PeerLimits::new(), |config| config.watermarks(256, 512).max_queued(512));
    for port in [1, 2, 3] {
        host.told(port, "a");
        host.peers.validate(host.key(port));
    }
    host.peers.end_reply();
    while host.peers.send(host.key(1), bytes("news")).is_ok() {}
    for port in [1, 2, 2] {
        assert!(host.peers.send(host.key(port), bytes("news")).is_err());
        assert!(!host.peers.is_writable(host.key(port)));
    }
    assert!(host.peers.wants_read(), "these were not replies");
    host.close_peer(1, Close::abort());
    host.poll();
    let waiting = host.waiting().len();
    host.sent(waiting - 3);
    assert_eq!(host.poll(), NONE);
    host.sent(1);
    assert_eq!(host.poll(), ["2 Writable"], "neither the peer that has gone nor one that was not refused");

    for _ in 0..20 {
        host.receive(3, "question");
    }
    let told = host.echo().len();
    assert!(told < 20 && !host.peers.wants_read(), "{told}");
    let mut rest = 0;
    while host.peers.wants_write() {
        host.flush();
        rest += host.echo().len();
    }
    assert_eq!(told + rest, 20);
    assert!(host.peers.wants_read());
}
