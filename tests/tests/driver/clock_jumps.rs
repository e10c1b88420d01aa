//! Clocks that jump: forward, as when a machine slept for hours or a process was stopped; or back, which a
//! runtime's clock should never do, but which must do no harm either.
//!
//! `session/deadlines.rs` tests a session alone; this is about drivers, servers, pools and tables of peers.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use getty_core::codec::{LengthDelimited, Raw};
use getty_core::datagram::{Path, PeerLimits};
use getty_core::websocket::{ServerOptions, WebSocket};
use getty_core::{Backoff, Close, Event, Session, framed};
use getty_driver::{Client, Connection, Driver, Pool, PoolOptions, Runtime, Server, ServerLimits};
use testkit::websocket::peers::REQUEST;

use crate::driver_common::fake::{self, Fake};
use crate::driver_common::packets::PacketWire;
use crate::driver_common::recorder::{Happening, Log, Recorder, Then};
use crate::driver_common::socket::Socket;
use crate::driver_common::task::Task;
use crate::driver_common::wire::{Answer, Op, Wire, wire};
use crate::driver_common::*;

const HOUR: Duration = Duration::from_secs(3600);
const NONE: [&str; 0] = [];

/// Sets the clock back by an hour. `now` must be the current time.
fn back_from(now: Instant) {
    assert_eq!(Fake::now(), now);
    fake::jump(now - HOUR);
}

#[test]
fn after_hours_of_sleep_whatever_is_due_comes_once() {
    let config =
        config(|c| c.cron_period(secs(1)).idle_read(secs(10)).idle_write(secs(10)).idle_both(secs(10)));
    let (recorder, log) = Recorder::quiet();
    let (mut task, wire) = driver(config, recorder);
    task.settle();
    assert_eq!(log.take(), ["on_open"]);
    for _ in 0..3 {
        let (polls, timers) = (task.polls, fake::timer_counts());
        fake::advance(10 * HOUR);
        task.settle();
        assert_eq!(log.count("on_cron"), 1);
        assert!(task.polls - polls <= 3, "{} polls", task.polls - polls);
        let reset = fake::timer_counts().reset - timers.reset;
        assert!(reset <= 3, "its timer was reset {reset} times");
        log.take();
    }
    // Periods go on from there.
    fake::advance(secs(1) - MS);
    task.settle();
    assert_eq!(log.take(), NONE);
    fake::advance(MS);
    task.settle();
    assert_eq!(log.take(), ["on_cron"]);
    wire.send_frame("awake");
    task.settle();
    assert_eq!(log.take(), ["on_message: awake"]);
    fake::advance(HOUR);
    task.settle();
    assert_eq!(
        log.take(),
        ["on_cron", "on_idle: Read", "on_idle: Both"],
        "a session that was idle for writing still is"
    );
}

#[test]
fn a_frame_that_stayed_incomplete_ends_its_session_once() {
    let (recorder, log) = Recorder::quiet();
    let (mut task, wire) = driver(config(|c| c.cron_period(secs(1)).idle_read(secs(1))), recorder);
    wire.send(&frame(b"hello")[..6]);
    task.settle();
    log.take();
    fake::advance(HOUR);
    task.finish();
    let reason = "on_close: timed out: a frame stayed incomplete (Config::partial_frame_timeout)";
    assert_eq!(log.take().last().unwrap(), reason);
    assert_eq!(log.count("on_close"), 0);
    assert!(wire.is_dropped());
}

/// The peer sent in time; its bytes have waited in the socket. It was not the peer that was late.
#[test]
fn what_came_before_the_sleep_counts() {
    let (recorder, log) = Recorder::quiet();
    let (mut task, wire) = driver(config(|c| c.idle_read(secs(10)).idle_both(secs(10))), recorder);
    let hello = frame(b"hello");
    wire.send(&hello[..6]);
    task.settle();
    log.take();
    wire.send(&hello[6..]);
    fake::advance(HOUR);
    task.settle();
    assert_eq!(log.take(), ["on_message: hello"]);
    fake::advance(secs(10));
    task.settle();
    assert_eq!(log.take(), ["on_idle: Read", "on_idle: Both"]);
}

/// A runtime may look at its timers first, and not yet know that there is something to read.
#[test]
fn what_the_runtime_learns_of_late_counts() {
    let hello = frame(b"hello");
    let (recorder, log) = Recorder::quiet();
    let (mut task, wire) = driver(config(|c| c), recorder);
    wire.send(&hello[..6]);
    task.settle();
    log.take();
    for _ in 0..3 {
        wire.answer(Op::Read, Answer::Pending);
        wire.send(&hello[6..]);
        wire.send(&hello[..6]);
        let (polls, yields) = (task.polls, fake::yields());
        fake::advance(HOUR);
        task.settle();
        assert_eq!(log.take(), ["on_message: hello"]);
        assert!(task.polls - polls < 5);
        assert_eq!(fake::yields() - yields, 1);
    }
    fake::advance(HOUR);
    task.finish();
    assert_eq!(log.take().len(), 1, "only on_close");

    let (mut connection, wire) = connection(config(|c| c));
    wire.send(&hello[..6]);
    assert!(Task::new(connection.recv()).run().is_pending());
    wire.send(&hello[6..]);
    wire.answer(Op::Read, Answer::Pending);
    fake::advance(HOUR);
    assert_eq!(Task::new(connection.recv()).finish().unwrap().unwrap(), "hello");
}

/// It is not the runtime that wakes it, which has not looked at its sockets yet.
#[test]
fn a_late_session_that_others_wake_again_judges_nothing_yet() {
    let hello = frame(b"hello");
    let (recorder, log) = Recorder::quiet();
    let (mut task, wire) = driver(config(|c| c), recorder);
    let handle = task.get_mut().handle();
    wire.send(&hello[..6]);
    task.settle();
    log.take();
    fake::advance(HOUR);
    wire.read_is_blind();
    wire.send(&hello[6..]);
    for post in ["one", "two"] {
        assert!(task.poll().is_pending());
        handle.try_send(Bytes::from(post)).unwrap();
    }
    task.settle();
    assert_eq!(log.take(), ["on_message: hello"]);
    assert_eq!(wire.take_frames(), ["one", "two"]);
}

#[test]
fn so_does_a_late_connection() {
    let hello = frame(b"hello");
    let (mut connection, wire) = connection(config(|c| c));
    wire.send(&hello[..6]);
    assert!(Task::new(connection.recv()).run().is_pending());
    fake::advance(HOUR);
    wire.read_is_blind();
    wire.send(&hello[6..]);
    for _ in 0..2 {
        assert!(Task::new(connection.recv()).poll().is_pending());
    }
    assert_eq!(Task::new(connection.recv()).finish().unwrap().unwrap(), "hello");
}

#[test]
fn what_the_socket_takes_after_the_sleep_is_no_stall() {
    let (recorder, log) = Recorder::echo();
    let (mut task, wire) = driver(config(|c| c), recorder);
    wire.room(3);
    wire.send_frame("hello");
    task.settle();
    wire.room(None);
    fake::advance(HOUR);
    task.settle();
    assert_eq!(wire.take_written(), frame(b"hello"));
    assert_eq!(log.take(), ["on_open", "on_message: hello"]);
}

/// A connection's deadlines run only while one of its methods is called, which may be long ago.
#[test]
fn what_came_before_a_connection_was_asked_again_counts() {
    let (mut connection, wire) = connection(config(|c| c.idle_read(secs(10)).idle_both(secs(10))));
    wire.room(3);
    assert!(Task::new(connection.send(Bytes::from("unwritten"))).run().is_pending());
    wire.room(None);
    wire.send_frame("hello");
    fake::advance(HOUR);
    let mut next = || Task::new(connection.event()).finish().unwrap();
    assert!(matches!(next(), Event::Open(_)));
    let event = next();
    assert!(matches!(&event, Event::Message(message) if message == "hello"), "{event:?}");
    assert_eq!(wire.take_written(), frame(b"unwritten"));
}

/// A server's connection that has received a request except for its last line.
fn opening() -> (Connection<Fake, wire::MemIo, WebSocket>, Wire) {
    let (io, wire) = wire();
    let session =
        Session::new(WebSocket::server(ServerOptions::new()), config(|c| c), getty_driver::now::<Fake>());
    let mut connection = Connection::new(session, io);
    wire.send(REQUEST.as_bytes());
    assert!(Task::new(connection.opened()).run().is_pending());
    (connection, wire)
}

#[test]
fn a_handshake_that_came_in_time_opens_a_connection() {
    let (mut connection, wire) = opening();
    wire.send(b"\r\n");
    fake::advance(secs(10)); // Config::handshake_timeout
    Task::new(connection.opened()).finish().unwrap();
}

#[test]
fn a_close_that_was_answered_in_time_is_clean() {
    let (mut connection, wire) = opening();
    wire.send(b"\r\n");
    Task::new(connection.opened()).finish().unwrap();
    let mut close = Task::new(connection.close(Close::graceful()));
    close.settle();
    wire.send(&[0x88, 0x80, 0, 0, 0, 0]);
    wire.eof();
    fake::advance(secs(5)); // Config::close_timeout
    let reason = close.finish();
    assert!(reason.is_clean(), "{reason}");
}

/// A server's session that waits for the reply to its first ping.
fn pinged(log: &Log) -> (Task<Driver<Fake, wire::MemIo, WebSocket, Socket>>, Wire) {
    let (io, wire) = wire();
    let config = config(|c| c.heartbeat_period(secs(20)).pong_timeout(secs(10)));
    let session = Session::new(WebSocket::server(ServerOptions::new()), config, getty_driver::now::<Fake>());
    let mut task = Task::new(Driver::new(session, io, Socket::new(log)));
    wire.send(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    task.settle();
    wire.take_written();
    fake::advance(secs(20));
    task.settle();
    assert_eq!(wire.take_written()[0], 0x89, "a ping");
    (task, wire)
}

#[test]
fn a_pong_that_did_not_come_ends_its_session_once() {
    let log = Log::default();
    let (mut task, wire) = pinged(&log);
    fake::advance(HOUR);
    task.finish();
    let reason = "on_close: timed out: the peer did not answer a ping (Config::pong_timeout)";
    assert_eq!(log.take(), ["on_request: /", "on_open", reason]);
    assert!(wire.is_dropped());
}

#[test]
fn a_pong_that_came_before_the_sleep_counts() {
    let log = Log::default();
    let (mut task, wire) = pinged(&log);
    wire.send(&[0x8a, 0x80, 0, 0, 0, 0]);
    fake::advance(HOUR);
    task.settle();
    assert_eq!(log.count("on_close"), 0, "{:?}", log.take());
    assert_eq!(wire.take_written()[0], 0x89, "one ping is due, not one for each missed period");
    assert!(wire.take_written().is_empty());
    fake::advance(secs(10));
    task.finish();
    assert_eq!(log.count("on_close: timed out: the peer did not answer a ping"), 1);
}

/// The late turn yields. In the next one nothing is overdue any longer, and later deadlines count as usual.
#[test]
fn a_late_turn_does_not_forget_the_next_deadline() {
    let log = Log::default();
    let (mut task, wire) = pinged(&log);
    wire.answer(Op::Read, Answer::Pending);
    wire.send(&[0x8a, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    fake::advance(secs(11));
    task.settle();
    assert_eq!((log.count("on_pong"), log.count("on_close")), (1, 0));
    for _ in 0..3 {
        assert!(wire.take_written().is_empty());
        fake::advance(secs(9));
        task.settle();
        assert_eq!(wire.take_written()[0], 0x89, "the next ping");
        wire.send(&[0x8a, 0x80, 0, 0, 0, 0]);
        fake::advance(secs(11));
        task.settle();
    }
}

/// For a session, time stands still until the clock is back where it was: nothing comes early, and nothing is
/// lost.
#[test]
fn a_clock_that_goes_back_harms_no_session() {
    let (recorder, log) = Recorder::echo();
    let (mut task, wire) = driver(config(|c| c.cron_period(secs(2)).idle_read(secs(2))), recorder);
    task.settle();
    fake::advance(secs(1));
    wire.send_frame("before");
    task.settle();
    let now = Fake::now();
    back_from(now);
    wire.send_frame("after");
    task.settle();
    assert_eq!(wire.take_frames(), ["before", "after"]);
    assert_eq!(log.take(), ["on_open", "on_message: before", "on_message: after"]);
    for _ in 0..60 {
        let polls = task.polls;
        fake::advance(secs(60));
        assert!(task.poll().is_pending());
        task.settle();
        assert!(task.polls - polls <= 2);
    }
    assert_eq!((Fake::now(), log.take()), (now, vec![]));
    fake::advance(secs(1));
    task.settle();
    assert_eq!(log.take(), ["on_cron"]);
    fake::advance(secs(1));
    task.settle();
    assert_eq!(log.take(), ["on_idle: Read"]);
}

/// A timer has fired for a time that the clock has gone back from.
#[test]
fn a_clock_that_goes_back_before_a_timer_is_looked_at_ends_nothing_early() {
    let (recorder, log) = Recorder::quiet();
    let (mut task, wire) = driver(config(|c| c.cron_period(secs(2))), recorder);
    wire.send(&frame(b"hello")[..6]);
    task.settle();
    log.take();
    let now = Fake::now();
    fake::advance(HOUR);
    fake::jump_unnoticed(now);
    task.settle();
    assert_eq!(log.take(), NONE);
    fake::advance(secs(2));
    task.settle();
    assert_eq!(log.take(), ["on_cron"], "the timer is still set");
}

/// A server that accepts ten connections per second.
fn limited() -> Server<Fake> {
    let builder = Server::<Fake>::builder().limits(ServerLimits::new().accepts_per_second(10));
    let server = builder.tcp("127.0.0.1:0", framed(LengthDelimited::new), || Recorder::echo().0);
    let server = fake::block_on(server).unwrap();
    fake::run();
    server
}

/// Brings `incoming` connections. Returns the number of all accepted so far.
fn accepted(server: &Server<Fake>, incoming: usize) -> u64 {
    (0..incoming).for_each(|_| fake::incoming(Ok(wire().0)));
    fake::run();
    server.stats().accepted
}

#[test]
fn hours_of_sleep_save_up_no_accepts() {
    let server = limited();
    assert_eq!(accepted(&server, 5), 5);
    fake::advance(10 * HOUR);
    assert_eq!(accepted(&server, 100), 15, "no more than a second's worth");
    for more in 1..=20 {
        fake::advance(100 * MS);
        assert_eq!(accepted(&server, 0), 15 + more);
    }
}

#[test]
fn a_clock_that_goes_back_does_not_keep_a_server_from_accepting() {
    let server = limited();
    assert_eq!(accepted(&server, 5), 5);
    back_from(Fake::now());
    assert!(accepted(&server, 100) <= 15, "no more than a second's worth");
    fake::advance(secs(1));
    let then = accepted(&server, 0);
    assert!((10..=25).contains(&then), "{then}");
    fake::advance(100 * MS);
    assert_eq!(accepted(&server, 0), then + 1, "as usual");
}

/// A pool of three sessions that waits at most 8 s between attempts.
fn pool() -> (Pool<Fake, Bytes>, Log) {
    let log = Log::default();
    let kept = log.clone();
    let options = PoolOptions::new().sessions(3).backoff(Backoff::new().first(secs(8)).cap(secs(8)));
    let listener = move || Recorder::quiet().0.log_to(&kept);
    let pool =
        Client::builder().pool(options).tcp(["192.0.2.1:7"], framed(LengthDelimited::new), listener).unwrap();
    fake::run();
    (pool, log)
}

fn accept() -> Wire {
    let (io, wire) = wire();
    fake::connects(Ok(io));
    fake::run();
    wire
}

#[test]
fn a_pool_that_slept_tries_once() {
    let (pool, log) = pool();
    (0..3).for_each(|_| fake::connects(Err(ErrorKind::ConnectionRefused.into())));
    fake::run();
    assert_eq!(fake::take_attempts().len(), 3);
    fake::advance(10 * HOUR);
    fake::run();
    assert_eq!(fake::take_attempts().len(), 1, "one session tries first");
    fake::connects(Err(ErrorKind::ConnectionRefused.into()));
    fake::run();
    let rests = pool.stats().addresses[0].rests_until.unwrap() - Fake::now();
    assert!(rests <= secs(8), "{rests:?}");
    fake::advance(secs(8));
    fake::run();
    assert_eq!(fake::take_attempts().len(), 1);
    let _servers = [accept(), accept(), accept()];
    assert_eq!((pool.stats().open, log.count("on_open")), (3, 3));
}

#[test]
fn a_clock_that_goes_back_does_not_keep_a_pool_from_connecting() {
    let (pool, log) = pool();
    let servers = [accept(), accept(), accept()];
    fake::advance(secs(60));
    fake::run();
    fake::take_attempts();
    back_from(Fake::now());
    servers.iter().for_each(|server| server.fail(ErrorKind::ConnectionReset));
    fake::run();
    assert_eq!(log.count("on_close"), 3, "each is reported at once");
    let rests = pool.stats().addresses[0].rests_until.unwrap() - Fake::now();
    assert!(rests <= secs(8), "{rests:?}");
    fake::advance(secs(8));
    fake::run();
    assert_eq!(fake::take_attempts().len(), 1);
    let _servers = [accept(), accept(), accept()];
    assert_eq!(pool.stats().open, 3);
}

/// A UDP server that accepts ten new peers per second, and whose peers are idle after ten seconds.
fn peers(log: &Log) -> (Server<Fake>, PacketWire) {
    let log = log.clone();
    let listener = move |_| Some(Recorder::echo().0.log_to(&log));
    let builder = Server::<Fake>::builder().config(config(|c| c.cron_period(secs(1)).idle_read(secs(10))));
    let limits = PeerLimits::new().new_per_second(10);
    let server = fake::block_on(builder.udp_peers("127.0.0.1:0", limits, Raw, listener)).unwrap();
    fake::run();
    (server, fake::udp_wire())
}

/// Sends a datagram from each of `ports`. Returns the number of new peers that were accepted.
fn come(wire: &PacketWire, log: &Log, ports: std::ops::Range<u16>) -> usize {
    let before = log.count("on_open");
    let path = |port| Path::new(SocketAddr::from(([192, 0, 2, 1], port)));
    ports.for_each(|port| wire.receives([(path(port), b"hello".to_vec())]));
    fake::run();
    log.count("on_open") - before
}

#[test]
fn hours_of_sleep_save_up_no_new_peers() {
    let log = Log::default();
    let (server, wire) = peers(&log);
    assert_eq!(come(&wire, &log, 1..6), 5);
    fake::advance(10 * HOUR);
    fake::run();
    assert_eq!((log.count("on_cron"), log.count("on_idle: Read")), (5, 5), "once each");
    assert_eq!(come(&wire, &log, 6..106), 10, "no more than a second's worth");
    fake::advance(secs(1));
    assert_eq!(come(&wire, &log, 106..206), 10, "as usual");
    log.take();
    come(&wire, &log, 1..6);
    assert_eq!(log.count("on_message"), 5, "known peers are still known");
    assert_eq!(server.sessions(), 25);
}

/// The peers sent in time; it was this end that was late.
#[test]
fn datagrams_that_came_before_the_sleep_count() {
    let log = Log::default();
    let (_server, wire) = peers(&log);
    come(&wire, &log, 1..6);
    fake::jump_unnoticed(Fake::now() + HOUR);
    come(&wire, &log, 1..6);
    fake::advance(Duration::ZERO);
    fake::run();
    assert_eq!((log.count("on_message"), log.count("on_cron"), log.count("on_idle")), (10, 5, 0));

    let (recorder, log) = Recorder::echo();
    let builder = Server::<Fake>::builder().config(config(|c| c.idle_read(secs(10)).idle_both(secs(10))));
    let _server = fake::block_on(builder.udp("127.0.0.1:0", Raw, recorder)).unwrap();
    fake::run();
    let wire = fake::udp_wire();
    fake::jump_unnoticed(Fake::now() + HOUR);
    wire.receives([(Path::new(SocketAddr::from(([192, 0, 2, 1], 1))), b"hello".to_vec())]);
    fake::run();
    assert_eq!(log.take(), ["on_open", "on_message: hello"]);
}

#[test]
fn datagrams_that_the_runtime_learns_of_late_count() {
    let log = Log::default();
    let (_server, wire) = peers(&log);
    come(&wire, &log, 1..2);
    fake::jump_unnoticed(Fake::now() + HOUR);
    wire.recv_is_blind();
    come(&wire, &log, 1..2);
    assert_eq!((log.count("on_message"), log.count("on_cron"), log.count("on_idle")), (2, 1, 0));

    let (recorder, log) = Recorder::echo();
    let builder = Server::<Fake>::builder().config(config(|c| c.idle_read(secs(10)).idle_both(secs(10))));
    let _server = fake::block_on(builder.udp("127.0.0.1:0", Raw, recorder)).unwrap();
    fake::run();
    let wire = fake::udp_wire();
    fake::jump_unnoticed(Fake::now() + HOUR);
    wire.recv_is_blind();
    wire.receives([(Path::new(SocketAddr::from(([192, 0, 2, 1], 1))), b"hello".to_vec())]);
    fake::run();
    assert_eq!(log.take(), ["on_open", "on_message: hello"]);
}

/// A late task with more work: a turn for the peer with posts, or posts that had no room at first.
#[test]
fn datagrams_count_that_came_before_the_sleep_though_handles_post() {
    for posts in [1, 100] {
        let (log, handles) = (Log::default(), Arc::new(Mutex::new(Vec::new())));
        let (notes, kept) = (log.clone(), handles.clone());
        let listener = move |_| {
            let kept = kept.clone();
            let recorder = Recorder::new(move |cx, happening| {
                if let Happening::Open = happening {
                    cx.validate_peer();
                    kept.lock().unwrap().push(cx.handle());
                }
                Then::Default
            });
            Some(recorder.0.log_to(&notes))
        };
        let config = config(|c| c.idle_timeout(secs(10)).watermarks(256, 512).max_queued(4096));
        let builder = Server::<Fake>::builder().config(config);
        let server = builder.udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, listener);
        let _server = fake::block_on(server).unwrap();
        fake::run();
        let wire = fake::udp_wire();
        come(&wire, &log, 1..3);
        let handle = handles.lock().unwrap().pop().unwrap();
        fake::jump_unnoticed(Fake::now() + HOUR);
        wire.recv_is_blind();
        (0..posts).for_each(|_| handle.try_send(Bytes::from("news")).unwrap());
        come(&wire, &log, 1..3);
        assert_eq!((log.count("on_message"), log.count("on_close")), (4, 0), "{posts} posts");
        assert_eq!(wire.take_sent().len(), posts);
    }
}

/// Time stands still for a table of peers, as for a session. Known peers are served, and as many new ones are
/// accepted as at that moment.
#[test]
fn a_clock_that_goes_back_harms_no_peer() {
    let log = Log::default();
    let (server, wire) = peers(&log);
    assert_eq!(come(&wire, &log, 1..6), 5);
    let now = Fake::now();
    back_from(now);
    for _ in 0..60 {
        come(&wire, &log, 1..6);
        fake::advance(secs(60));
        fake::run();
    }
    assert_eq!(log.count("on_message"), 5 + 60 * 5);
    assert_eq!((log.count("on_cron"), log.count("on_idle")), (0, 0), "nothing is early");
    assert_eq!(Fake::now(), now);
    fake::advance(secs(1) + 20 * MS); // a table may notice a deadline up to a sixty-fourth of it late
    fake::run();
    assert_eq!(log.count("on_cron"), 5, "nothing is lost");
    assert_eq!(come(&wire, &log, 100..200), 10);
    assert_eq!(server.sessions(), 15);
}
