//! Rules of peer tables that are easily broken, between two calls that rarely follow each other.

use std::io;

use getty_core::codec::LengthDelimited;
use getty_core::datagram::{PacketOptions, PeerLimits, PeersEvent};
use getty_core::{Close, Idle, SendError};

use crate::peers_common::{Host, NONE, batch, bytes, millis, path, secs};

#[test]
fn a_batch_of_a_peer_that_was_closed_does_not_swallow_somebody_unknown() {
    let mut host = Host::new();
    host.peers.handle_datagrams(host.clock.now(), batch([(1, &b"a"[..]), (1, b"b"), (1, b"c")])).unwrap();
    assert_eq!([host.next(), host.next(), host.next()].map(Option::unwrap), ["1?", "1 Open", "1 a"]);
    host.send(1, "answer");
    let old = host.key(1);
    host.close_peer(1, Close::graceful());
    assert_eq!(host.peers.poll_message(old), None, "the old session is closed");
    assert_eq!(host.poll(), ["1?", "1 Open", "1 b", "1 c"], "the same address is a new peer");
    assert_eq!(host.peers.dropped().total(), 0);
    assert_eq!(host.flush(), [(1, "answer".to_owned())]);
    host.clock.advance(secs(1));
    assert_ne!(old, host.key(1));
}

#[test]
fn who_is_ending_is_not_evicted() {
    let mut host = Host::limited(PeerLimits::new().max_peers(1), |config| config);
    host.told(1, "a");
    host.send(1, "last words");
    host.close_peer(1, Close::graceful());
    host.clock.advance(secs(5));
    host.peers.update_active(host.clock.now(), host.key(1));
    host.told(2, "b");
    assert_eq!(
        host.told(3, "c"),
        ["3?", "2 Closed: evicted to make room for another peer (PeerLimits::max_peers)", "3 Open", "3 c"]
    );
    host.flush();
    assert_eq!(host.poll(), ["1 Closed: closed by this end"]);
}

#[test]
fn nothing_is_delivered_of_who_is_paused_within_a_datagram() {
    let options = PacketOptions::unconnected().several_frames(true);
    let mut host = Host::of(LengthDelimited::new(), options, PeerLimits::new(), |config| config);
    host.receive(1, b"\0\0\0\x01a\0\0\0\x01b\0\0\0\x01c");
    host.receive(2, b"\0\0\0\x01d");
    assert_eq!([host.next(), host.next(), host.next()].map(Option::unwrap), ["1?", "1 Open", "1 a"]);
    host.peers.pause(host.key(1));
    assert_eq!(host.poll(), ["2?", "2 Open", "2 d", "Dropped 1: its peer's session is paused"]);
    assert_eq!(host.peers.dropped().paused, 1, "the rest of it counts as one datagram");
    host.peers.resume(host.clock.now(), host.key(1));
    assert_eq!(host.told(1, b"\0\0\0\x01e"), ["1 e"]);
}

#[test]
fn who_is_paused_before_its_first_message_is_told_none() {
    let mut host = Host::new();
    host.receive(1, "a");
    assert_eq!(host.next().unwrap(), "1?");
    host.peers.pause(host.key(1));
    assert_eq!(host.poll(), ["1 Open", "Dropped 1: its peer's session is paused"]);
}

#[test]
fn what_could_not_be_sent_may_be_sent_again() {
    let mut host = Host::new();
    host.told(1, "0123456789");
    host.peers.send(host.key(1), bytes(&"x".repeat(30))).unwrap();
    let more = |host: &mut Host| host.peers.send(host.keys[&1], bytes("y"));
    assert!(matches!(more(&mut host), Err(SendError::NotValidated(_))));
    host.peers.handle_unsent(host.clock.now(), io::ErrorKind::PermissionDenied);
    assert!(more(&mut host).is_ok(), "none of the 30 bytes went anywhere");
    host.flush();
    assert!(host.peers.send(host.key(1), bytes(&"y".repeat(29))).is_ok());
    assert!(matches!(more(&mut host), Err(SendError::NotValidated(_))), "the limit is the same as before");
}

#[test]
fn what_is_left_of_an_aborted_peer_is_not_sent_after_the_end() {
    let mut host = Host::new();
    host.told(1, "a");
    host.send(1, "b");
    host.close_peer(1, Close::abort());
    host.close(Close::graceful());
    assert_eq!(
        host.poll(),
        ["1 Closed: closed by this end, not everything was sent", "Closed: closed by this end"]
    );
    assert!(!host.peers.wants_write());
    assert_eq!(host.peers.poll_timeout(), None);
    host.sent(1);
    assert_eq!(host.poll(), NONE);
}

#[test]
fn a_session_that_is_over_keeps_its_reason() {
    let mut host = Host::new();
    for port in [1, 2, 3] {
        host.told(port, "a");
    }
    host.send(2, "b");
    host.send(3, "b");
    host.close_peer(1, Close::graceful());
    host.close_peer(1, Close::abort());
    host.close_peer(2, Close::idle(Idle::Both));
    host.peers.handle_io_error(host.clock.now(), io::ErrorKind::NotConnected);
    host.close(Close::abort());
    host.peers.handle_io_error(host.clock.now(), io::ErrorKind::Other);
    let told = host.poll();
    assert_eq!(told[0], "1 Closed: closed by this end");
    let failed = told.iter().filter(|told| told.contains("transport: not connected")).count();
    assert_eq!((failed, told.len()), (3, 4), "{told:?}");
}

#[test]
fn a_graceful_close_that_is_done_stays_graceful() {
    let mut host = Host::new();
    host.told(1, "a");
    host.send(1, "b");
    host.close(Close::graceful());
    assert!(host.peers.poll_timeout().is_some());
    host.flush();
    assert_eq!(host.peers.poll_timeout(), None, "nothing is left to wait for");
    let late = host.clock.advance(secs(3600));
    host.peers.handle_timeout(late);
    host.close(Close::abort());
    assert_eq!(host.poll(), ["1 Closed: closed by this end", "Closed: closed by this end"]);
}

#[test]
fn a_report_that_is_due_is_no_deadline() {
    let mut host = Host::new();
    host.unwanted = vec![1];
    assert_eq!(host.told(1, "a"), ["1?", "Dropped 1: its peer was not admitted"]);
    assert_eq!(host.told(1, "a"), ["1?"]);
    assert_eq!(host.peers.poll_timeout(), Some(host.clock.at(secs(1))));
    let now = host.clock.advance(secs(1));
    host.peers.handle_timeout(now);
    assert_eq!((host.peers.poll_timeout(), host.peers.wants_poll()), (None, true));
    assert_eq!(host.poll(), ["Dropped 1: its peer was not admitted"]);
}

#[test]
fn reports_go_on_while_what_waits_is_sent() {
    let mut host = Host::new();
    host.told(1, "a");
    host.send(1, "b");
    host.send(1, "c");
    host.close(Close::graceful());
    host.peers.handle_unsent(host.clock.now(), io::ErrorKind::PermissionDenied);
    assert_eq!(host.poll(), ["Dropped 1: it did not arrive: permission denied"]);
    host.peers.handle_unreachable(host.clock.now(), None, io::ErrorKind::ConnectionRefused);
    assert_eq!(host.peers.dropped().unsent, 2);
    assert_eq!(host.at(secs(1)), ["Dropped 1: it did not arrive: connection refused"]);
    host.flush();
    assert_eq!(host.poll(), ["1 Closed: closed by this end", "Closed: closed by this end"]);
}

#[test]
fn nobody_is_blamed_for_what_was_not_read() {
    let mut host = Host::with(|config| config.idle_read(secs(10)).watermarks(0, 128));
    host.told(1, "hello");
    host.at(secs(5));
    for _ in 0..2 {
        host.receive(1, "hello");
    }
    assert_eq!(host.echo(), ["1 hello", "1 hello"]);
    assert!(!host.peers.wants_read(), "too many replies are waiting");
    assert_eq!(host.at(millis(10_200)), NONE);
    assert_eq!(host.at(secs(19)), NONE);
    host.flush();
    assert!(host.peers.wants_read());
    assert_eq!(host.at(millis(20_500)), NONE, "of 15 quiet seconds, this end did not read for 14");
    assert_eq!(host.at(millis(28_900)), NONE);
    assert_eq!(host.at(millis(29_300)), ["1 Idle::Read"]);
}

#[test]
fn a_bad_datagram_is_a_sign_of_life_too() {
    let mut host = Host::with(|config| config.idle_read(secs(10)).max_datagram(10));
    host.told(1, "a");
    host.at(secs(6));
    host.told(1, "");
    host.told(1, "larger than allowed");
    assert_eq!(host.peers.last_active(host.key(1)), Some(host.clock.now()));
    let received = host.peers.stats(host.key(1)).received;
    assert_eq!((received.operations, received.bytes, received.messages), (3, 20, 1));
    assert!(!host.at(secs(12)).iter().any(|told| told.contains("Idle")));
}

#[test]
fn the_connect_ping_of_go_getty_is_no_message_if_it_comes_first() {
    let options = PacketOptions::unconnected().getty_compat(true);
    let mut host = Host::of(getty_core::codec::Raw, options, PeerLimits::new(), |config| config);
    let dropped = "Dropped 1: it was Go getty's connect-ping";
    assert_eq!(host.told(1, "connect-ping"), ["1?", "1 Open", dropped]);
    assert_eq!(host.told(1, "connect-ping"), ["1 connect-ping"]);
    assert_eq!(host.told(2, "a"), ["2?", "2 Open", "2 a"]);
    assert_eq!(host.peers.dropped().connect_pings, 1);
    let mut host = Host::new();
    assert_eq!(host.told(1, "connect-ping"), ["1?", "1 Open", "1 connect-ping"], "only with the option");
}

#[test]
fn a_peer_ends_although_the_socket_takes_nothing() {
    let mut host = Host::with(|config| config.close_timeout(secs(5)));
    for port in [1, 2, 3] {
        host.told(port, "a");
        host.send(port, "b");
    }
    host.close_peer(1, Close::graceful());
    host.close_peer(2, Close::idle(Idle::Both));
    assert_eq!(host.at(millis(4990)), NONE);
    let mut told = host.at(millis(5020));
    told.sort();
    assert_eq!(
        told,
        [
            "1 Closed: timed out: the close was not done in time (Config::close_timeout)",
            "2 Closed: timed out: nothing was received or sent (Config::idle_both)"
        ]
    );
    assert_eq!(host.flush().len(), 3, "queued datagrams are still sent");
    assert_eq!(host.poll(), NONE);
}

#[test]
fn a_poll_for_messages_ends_the_answer() {
    let mut host = Host::with(|config| config.watermarks(0, 128).max_queued(128));
    host.receive(1, "hello");
    assert_eq!([host.next(), host.next(), host.next()].map(Option::unwrap), ["1?", "1 Open", "1 hello"]);
    let key = host.key(1);
    host.peers.validate(key);
    assert_eq!(host.peers.poll_message(key), None);
    for _ in 0..4 {
        let _ = host.peers.send(key, bytes("news"));
    }
    assert!(host.peers.wants_read(), "no replies are waiting");
}

#[test]
fn stale_and_foreign_keys_do_nothing() {
    let mut host = Host::new();
    let mut other = Host::new();
    for port in 1..=9 {
        other.told(port, "a");
    }
    host.told(1, "a");
    host.send(1, "queued");
    let old = host.key(1);
    host.close_peer(1, Close::abort());
    host.poll();
    host.told(1, "b");
    assert_eq!(old.index(), host.key(1).index(), "the slot is reused");
    for key in [old, other.key(9)] {
        let now = host.clock.now();
        assert!(matches!(host.peers.send(key, bytes("x")), Err(SendError::Closed(_))));
        host.peers.close_peer(now, key, Close::abort());
        host.peers.pause(key);
        host.peers.resume(now, key);
        host.peers.validate(key);
        host.peers.update_active(now, key);
        assert_eq!(host.peers.notify_flushed(key), None);
        assert_eq!(host.peers.poll_message(key), None);
        assert!(!host.peers.is_open(key) && !host.peers.is_writable(key));
        assert_eq!((host.peers.path(key), host.peers.last_active(key)), (None, None));
        assert_eq!(host.peers.stats(key).received.messages, 0);
    }
    assert_eq!(host.poll(), NONE);
    host.send(1, "new");
    assert_eq!(host.waiting().len(), 2);
    host.sent(1);
    assert_eq!(host.peers.stats(host.key(1)).progress.flushed, None, "that was the old peer's datagram");
    host.sent(9);
    assert_eq!(host.peers.stats(host.key(1)).progress.flushed.unwrap().get(), 1);
}

#[test]
fn an_answer_to_somebody_unknown_counts_once() {
    let mut host = Host::new();
    assert_eq!(host.peers.admit(true), None, "no peer was reported");
    host.receive(1, "a");
    assert!(matches!(host.peers.poll_event(), Some(PeersEvent::Unknown(asked)) if asked == path(1)));
    assert!(host.peers.admit(true).is_some());
    assert_eq!((host.peers.admit(true), host.peers.admit(false)), (None, None));
    assert_eq!(host.peers.len(), 1);
    let mut host = Host::new();
    host.receive(1, "a");
    host.receive(2, "b");
    for _ in 0..2 {
        assert!(
            matches!(host.peers.poll_event(), Some(PeersEvent::Unknown(_))),
            "peers are reported though the first was not answered"
        );
    }
    host.close(Close::graceful());
    assert_eq!(host.peers.admit(true), None, "too late");
    assert_eq!(host.poll(), ["Closed: closed by this end"]);
}
