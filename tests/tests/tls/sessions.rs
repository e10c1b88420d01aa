//! TLS below a protocol, in memory and under virtual time: both ends are ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use getty_core::layer::Layer;
use getty_core::layer::tls::{TlsError, TlsFacts};
use getty_core::{Close, CloseReason, Config, Deadline, Event, Memory, Protocol};
use rustls::CertificateError;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use testkit::Rng;
use testkit::pair::{End, Pair, Split, Wire};

use crate::common::{plain, secs, words};
use crate::solo::{Secure, Solo, shaken};
use crate::tls_common::*;

fn config() -> Arc<Config> {
    Config::builder().build().unwrap()
}

fn pair(world: &World) -> Pair<Secure> {
    Pair::new(client(world.client_config(), plain()), server(world.server_config(), plain()), config())
}

/// Closes once the peer has ended its stream, as listeners do by default.
fn closes_on_read_end<P: Protocol>(end: &mut End<P>) {
    end.on_event(|session, now, event| {
        if matches!(event, Event::Eof) {
            session.close(now, Close::graceful());
        }
    });
}

/// Sends back every message, and closes in the same way.
fn echoes(end: &mut End<Secure>) {
    end.on_event(|session, now, event| match event {
        Event::Message(message) => drop(session.send(message.clone()).unwrap()),
        Event::Eof => session.close(now, Close::graceful()),
        _ => {}
    });
}

fn told(end: &End<Secure>) -> Vec<String> {
    end.events.iter().map(|(_, event)| words(event)).collect()
}

fn tls_error<P: Protocol>(end: &End<P>) -> TlsError {
    match end.close_reason() {
        Some(CloseReason::Layer(error)) => error.downcast_ref::<TlsError>().unwrap().clone(),
        other => panic!("expected a TLS error: {other:?}"),
    }
}

fn facts(end: &End<Secure>) -> &TlsFacts {
    let opened = end.events.iter().find_map(|(_, event)| match event {
        Event::Open(opened) => opened.tls.as_deref(),
        _ => None,
    });
    opened.expect("the session has opened")
}

#[test]
fn messages_go_both_ways_and_both_ends_close_cleanly() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let world = World::new();
        let mut pair = Pair::new(
            client(client_config(&world.authority, version), plain()),
            server(server_config(&world.server, version), plain()),
            config(),
        );
        echoes(&mut pair.b);
        pair.settle();
        pair.a.session.send(Bytes::from("hello")).unwrap();
        pair.settle();
        pair.a.session.close(pair.clock.now(), Close::graceful());
        assert!(pair.run_until_closed(secs(1)));
        assert_eq!(told(&pair.a), ["Open", "Message hello", "Closed: closed by this end"]);
        assert_eq!(told(&pair.b), ["Open", "Message hello", "Eof", "Closed: closed by the peer"]);
        assert_eq!(facts(&pair.a).version, Some(version.version));
    }
}

#[test]
fn however_the_wire_cuts_it_the_same_messages_come() {
    let world = World::new();
    let sizes = [0, 1, 16, 1000, 5000, 16_380, 16_384, 40_000, 200_000, 3];
    for (split, lends) in [
        (Split::Every(1), false),
        (Split::Every(7), true),
        (Split::Every(5000), true),
        (Split::Random(Rng::new(3), 300), false),
        (Split::Random(Rng::new(4), 30_000), true),
    ] {
        let mut pair = pair(&world).wires(Wire { split, capacity: 100_000, ..Wire::default() });
        if lends {
            pair = pair.lending();
        }
        echoes(&mut pair.b);
        pair.settle();
        for (n, size) in sizes.iter().enumerate() {
            pair.a.session.send(Bytes::from(vec![n as u8; *size])).unwrap();
        }
        pair.settle();
        let echoed: Vec<_> = pair.a.messages().iter().map(|m| (m.len(), m.first().copied())).collect();
        let sent: Vec<_> =
            sizes.iter().enumerate().map(|(n, &size)| (size, (size > 0).then_some(n as u8))).collect();
        assert_eq!(echoed, sent);
        let progress = pair.a.session.stats().progress;
        assert_eq!((progress.flushed, progress.unknown), (progress.accepted, None));
    }
}

#[test]
fn both_ends_know_what_was_agreed() {
    let world = World::new();
    let (mut ours, mut theirs) =
        (world.client_config_with_certificate(&world.client), world.strict_server_config());
    ours.alpn_protocols = vec![b"getty/1".to_vec(), b"other".to_vec()];
    theirs.alpn_protocols = vec![b"getty/1".to_vec()];
    let mut pair = Pair::new(client(ours, plain()), server(theirs, plain()), config());
    pair.settle();
    for end in [&pair.a, &pair.b] {
        let facts = facts(end);
        assert_eq!(facts.alpn.as_deref(), Some(&b"getty/1"[..]));
        assert_eq!(facts.server_name.as_deref(), Some("localhost"));
        assert!(facts.cipher_suite.is_some() && !facts.resumed);
    }
    assert_eq!(facts(&pair.a).peer_certificates, world.server.chain());
    assert_eq!(facts(&pair.b).peer_certificates, world.client.chain());
}

#[test]
fn a_client_that_comes_again_resumes() {
    let world = World::new();
    let (ours, theirs) = (Arc::new(world.client_config()), Arc::new(world.server_config()));
    for (round, resumed) in [false, true].into_iter().enumerate() {
        let mut pair =
            Pair::new(client_of("localhost", ours.clone(), plain()), server_of(&theirs, plain()), config());
        closes_on_read_end(&mut pair.b);
        pair.settle();
        assert_eq!((facts(&pair.a).resumed, facts(&pair.b).resumed), (resumed, resumed), "round {round}");
        pair.a.session.close(pair.clock.now(), Close::graceful());
        assert!(pair.run_until_closed(secs(1)));
    }
}

#[test]
fn a_peer_that_is_not_to_be_trusted_is_told_so_and_named() {
    let world = World::new();
    let strangers = Authority::new("strangers");
    let config_of = |signed: &Signed| server_config(signed, &rustls::version::TLS13);
    let cases = [
        ("localhost", config_of(&strangers.sign(&["localhost"])), "it is not signed by a trusted authority"),
        ("localhost", config_of(&world.authority.sign_expired(&["localhost"])), "it has expired"),
        ("example.org", world.server_config(), "it is not for example.org but for"),
    ];
    for (name, theirs, words) in cases {
        let ours = Arc::new(world.client_config());
        let mut pair = Pair::new(client_of(name, ours, plain()), server(theirs, plain()), config());
        assert!(pair.run_until_closed(secs(1)), "no end waits for a deadline");
        assert!(matches!(tls_error(&pair.a), TlsError::Certificate(_)));
        let reason = pair.a.close_reason().unwrap().to_string();
        assert!(reason.contains(words), "{reason}");
        assert!(matches!(tls_error(&pair.b), TlsError::Refused(_)), "{:?}", pair.b.close_reason());
        assert!(pair.a.messages().is_empty() && told(&pair.a).len() == 1, "it never opened");
    }
}

#[test]
fn a_client_without_the_certificate_that_is_demanded_is_refused() {
    let world = World::new();
    let mut pair = Pair::new(
        client(world.client_config(), plain()),
        server(world.strict_server_config(), plain()),
        config(),
    );
    assert!(pair.run_until_closed(secs(1)));
    // With TLS 1.3, the client is done before the server has seen that it sends no certificate.
    assert_eq!(
        pair.a.close_reason().unwrap().to_string(),
        "TLS: the peer refused: it requires a certificate from this end"
    );
    assert!(told(&pair.b).iter().all(|told| !told.starts_with("Open")));

    let strangers = Authority::new("strangers");
    let ours = world.client_config_with_certificate(&strangers.sign(&["a client"]));
    let mut pair = Pair::new(client(ours, plain()), server(world.strict_server_config(), plain()), config());
    assert!(pair.run_until_closed(secs(1)));
    assert_eq!(tls_error(&pair.b), TlsError::Certificate(CertificateError::UnknownIssuer));
    assert!(told(&pair.b).iter().all(|told| !told.starts_with("Open")));
}

#[test]
fn a_stream_that_ends_without_close_notify_is_an_error_wherever_it_is_cut() {
    let world = World::new();
    let whole = {
        let (mut client, _) = shaken(&world);
        client.session.send(Bytes::from("first")).unwrap();
        let first = client.written().len();
        client.session.send(Bytes::from("second")).unwrap();
        (first, first + client.written().len())
    };
    for cut in 0..=whole.1 {
        let (mut client, mut server) = shaken(&world);
        client.session.send(Bytes::from("first")).unwrap();
        let mut wire = client.written();
        client.session.send(Bytes::from("second")).unwrap();
        wire.extend(client.written());
        server.input(&wire[..cut]);
        server.session.handle_eof(server.clock.now());
        let mut expected = Vec::new();
        if cut >= whole.0 {
            expected.push("Message first");
        }
        if cut >= whole.1 {
            expected.push("Message second");
        }
        expected.push("Closed: TLS: the stream was cut off: it ended without close_notify");
        assert_eq!(server.poll(), expected, "cut at {cut} of {whole:?}");
    }
}

#[test]
fn an_end_in_due_form_is_one_wherever_it_is_cut_into_reads() {
    let world = World::new();
    for step in 1..40 {
        let (mut client, mut server) = shaken(&world);
        client.session.send(Bytes::from("first")).unwrap();
        client.session.close(client.clock.now(), Close::graceful());
        let wire = client.written();
        wire.chunks(step).for_each(|piece| server.input(piece));
        assert_eq!(server.poll(), ["Message first", "Eof"]);
        assert!(!server.session.wants_read(), "nothing is read after close_notify");
        server.session.handle_eof(server.clock.now());
        server.session.close(server.clock.now(), Close::graceful());
        let end = server.written();
        assert!(!end.is_empty(), "both ends send close_notify");
        assert!(client.session.wants_shutdown());
        client.session.handle_shutdown(client.clock.now());
        client.input(&end);
        assert!(client.poll().is_empty(), "it waits for the end of the transport");
        client.input(b"garbage is not looked at any more");
        client.session.handle_eof(client.clock.now());
        assert_eq!(client.poll(), ["Closed: closed by this end"]);
    }
}

#[test]
fn garbage_and_changed_records_end_the_session_with_an_alert() {
    let world = World::new();
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 4] = [
        ("a changed byte", |wire| *wire.last_mut().unwrap() ^= 1),
        ("a length of 64 KiB", |wire| wire[3..5].copy_from_slice(&[0xff; 2])),
        ("a type that is none", |wire| wire[0] = 99),
        ("plain text", |wire| *wire = b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ];
    for (what, change) in changes {
        let (mut client, mut server) = shaken(&world);
        client.session.send(Bytes::from("good")).unwrap();
        server.input(&client.written());
        server.session.send(Bytes::from("never sent")).unwrap();
        client.session.send(Bytes::from("bad")).unwrap();
        let mut wire = client.written();
        change(&mut wire);
        server.input(&wire);
        assert!(server.session.wants_write(), "{what}: no alert");
        assert!(matches!(server.session.send(Bytes::from("late")), Err(getty_core::SendError::Closed(_))));
        assert_eq!(server.poll(), ["Message good"], "{what}");
        let alert = server.written();
        client.input(&alert);
        let reason = client.poll();
        assert!(reason[0].starts_with("Closed: TLS: the peer refused"), "{what}: {reason:?}");
        assert!(server.session.wants_shutdown());
        server.session.handle_shutdown(server.clock.now());
        server.session.handle_eof(server.clock.now());
        let reason = server.poll();
        assert!(reason.len() == 1 && reason[0].starts_with("Closed: TLS: "), "{what}: {reason:?}");
        let progress = server.session.stats().progress;
        assert_eq!((progress.flushed, progress.unknown), (None, None), "unsealed messages were not sent");
    }
}

#[test]
fn plain_text_to_a_server_is_no_handshake() {
    let world = World::new();
    let mut server = Solo::new(server(world.server_config(), plain()));
    server.input(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(!server.written().is_empty(), "an alert is written");
    server.session.handle_shutdown(server.clock.now());
    server.session.handle_eof(server.clock.now());
    assert!(server.poll()[0].starts_with("Closed: TLS: "));
}

#[test]
fn the_handshake_has_a_deadline_and_its_end_is_no_truncation() {
    let world = World::new();
    let mut server_end = Solo::new(server(world.server_config(), plain()));
    let now = server_end.clock.jump(server_end.clock.at(secs(10)));
    server_end.session.handle_timeout(now);
    assert_eq!(
        server_end.poll(),
        ["Closed: timed out: the handshake was not done in time (Config::handshake_timeout)"]
    );

    let mut server_end = Solo::new(server(world.server_config(), plain()));
    let hello = Solo::new(client(world.client_config(), plain())).written();
    server_end.input(&hello[..hello.len() / 2]);
    server_end.session.handle_eof(server_end.clock.now());
    assert_eq!(
        server_end.poll(),
        ["Closed: TLS: the peer ended the stream during the handshake: does it speak TLS?"]
    );
}

#[test]
fn a_record_that_dribbles_in_is_a_partial_frame() {
    let world = World::new();
    let (mut client, mut server) = shaken(&world);
    client.session.send(Bytes::from("slow")).unwrap();
    let wire = client.written();
    for (n, byte) in wire.iter().take(8).enumerate() {
        server.input(std::slice::from_ref(byte));
        assert!(server.poll().is_empty());
        assert_eq!(server.session.timeout_reason(), Some(Deadline::PartialFrame));
        let now = server.clock.jump(server.clock.at(Duration::from_secs(n as u64 * 4)));
        server.session.handle_timeout(now);
    }
    let now = server.clock.jump(server.clock.at(secs(30)));
    server.session.handle_timeout(now);
    assert_eq!(
        server.poll(),
        ["Closed: timed out: a frame stayed incomplete (Config::partial_frame_timeout)"]
    );
}

#[test]
fn of_a_batch_that_was_written_in_part_nobody_knows() {
    let world = World::new();
    let (mut client, _) = shaken(&world);
    for n in 0..5 {
        client.session.send(Bytes::from(vec![n; 1000])).unwrap();
    }
    client.written();
    for n in 0..100 {
        client.session.send(Bytes::from(vec![n; 1000])).unwrap();
    }
    let now = client.clock.now();
    client.session.outbound(now).advance(3000);
    let seq = |n| getty_core::Seq::FIRST.get() - 1 + n;
    client.session.handle_io_error(now, std::io::ErrorKind::ConnectionReset);
    let progress = client.session.stats().progress;
    assert_eq!(progress.flushed.unwrap().get(), seq(5));
    assert_eq!(progress.accepted.unwrap().get(), seq(105));
    // 64 KiB were sealed: 65 messages of 1004 bytes, and part of the next one.
    assert_eq!(progress.unknown.unwrap().get(), seq(5 + 66));
}

#[test]
fn nothing_that_was_sealed_and_not_begun_counts_as_unknown() {
    let world = World::new();
    let (mut client, _) = shaken(&world);
    client.session.send(Bytes::from("unsent")).unwrap();
    let now = client.clock.now();
    drop(client.session.outbound(now));
    client.session.handle_io_error(now, std::io::ErrorKind::ConnectionReset);
    let progress = client.session.stats().progress;
    assert_eq!((progress.flushed, progress.unknown, progress.partly_written), (None, None, false));
}

#[test]
fn idle_sessions_hold_no_buffer_after_any_record() {
    let world = World::new();
    let (mut client, mut server) = shaken(&world);
    let mut memory = Some(Memory::new());
    for size in [16, 16_384, 100_000] {
        client.session.send(Bytes::from(vec![1; size])).unwrap();
        let wire = client.written();
        for piece in wire.chunks(4000) {
            server.session.lend(memory.take().unwrap());
            server.input(piece);
            server.poll();
            memory = Some(server.session.take_back());
        }
        assert_eq!(server.session.stats().buffered, 0);
        let (_, usage) = testkit::alloc::measure(|| {
            server.session.lend(memory.take().unwrap());
            memory = Some(server.session.take_back());
        });
        assert_eq!(usage.live, 0);
    }
}

/// rustls keeps the position of a handshake message in the received bytes, and must be shown them again at
/// every call.
#[test]
fn messages_go_out_while_a_handshake_message_has_come_in_part() {
    let world = World::new();
    let mut theirs = world.server_config();
    theirs.max_fragment_size = Some(64); // so that each of its tickets takes several records
    let theirs = Arc::new(theirs);
    let mut cut = 1;
    loop {
        let mut client = Solo::new(client(world.client_config(), plain()));
        let mut server = Solo::new(server_of(&theirs, plain()));
        server.input(&client.written());
        client.input(&server.written());
        server.input(&client.written());
        let tickets = server.written();
        if cut > tickets.len() {
            break;
        }
        client.input(&tickets[..cut]);
        client.session.send(Bytes::from("meanwhile")).unwrap();
        server.input(&client.written());
        assert_eq!(server.poll(), ["Open", "Message meanwhile"], "cut at {cut}");
        client.input(&tickets[cut..]);
        client.session.close(client.clock.now(), Close::graceful());
        server.input(&client.written());
        assert_eq!(server.poll(), ["Eof"]);
        cut += 1;
    }
    assert!(cut > 200, "the tickets must be fragmented: {cut}");
}

#[test]
fn a_hello_in_fragments_is_as_good() {
    let world = World::new();
    let mut ours = world.client_config();
    ours.max_fragment_size = Some(64);
    let mut pair = Pair::new(client(ours, plain()), server(world.server_config(), plain()), config())
        .wires(Wire { split: Split::Every(13), ..Wire::default() })
        .lending();
    echoes(&mut pair.b);
    pair.settle();
    pair.a.session.send(Bytes::from(vec![5; 3000])).unwrap();
    pair.settle();
    assert_eq!(pair.a.messages(), [vec![5; 3000]]);
}

/// For programs that choose at run time: `None` works like no layer, and `Some` like the layer itself.
#[test]
fn a_layer_may_be_there_or_not() {
    use getty_core::layer::tls::Tls;

    let world = World::new();
    for secure in [false, true] {
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let ours = secure.then(|| Tls::client(Arc::new(world.client_config()), name).unwrap());
        let theirs = secure.then(|| Tls::server(&Arc::new(world.server_config())).unwrap());
        let mut pair = Pair::new(plain().under(ours), plain().under(theirs), config());
        closes_on_read_end(&mut pair.b);
        pair.settle();
        pair.a.session.send(Bytes::from("hello")).unwrap();
        pair.a.session.close(pair.clock.now(), Close::graceful());
        assert!(pair.run_until_closed(secs(1)));
        assert_eq!(pair.b.messages(), ["hello"]);
        assert!(pair.a.close_reason().unwrap().is_clean() && pair.b.close_reason().unwrap().is_clean());
        let bare = pair.a.session.stats().sent.bytes == 9;
        assert_eq!(bare, !secure, "without a layer, nothing is added");
    }
}

/// The client sends close_notify, and goes on reading what the server sends after that.
#[test]
fn a_half_close_is_a_close_notify() {
    let world = World::new();
    for split in [Split::Whole, Split::Every(1)] {
        let mut pair = pair(&world).wires(Wire { split, ..Wire::default() }).lending();
        pair.b.on_event(|session, now, event| {
            if matches!(event, Event::Eof) {
                session.send(Bytes::from(vec![5; 100_000])).unwrap();
                session.close(now, Close::graceful());
            }
        });
        pair.settle();
        pair.a.session.send(Bytes::from("hello")).unwrap();
        pair.a.session.half_close(pair.clock.now()).unwrap();
        assert!(pair.run_until_closed(secs(1)));
        assert_eq!(pair.b.messages(), ["hello"]);
        assert_eq!(pair.a.messages(), [vec![5; 100_000]]);
        for reason in [pair.a.close_reason(), pair.b.close_reason()] {
            assert!(matches!(reason, Some(CloseReason::Eof { mid_frame: false })), "{reason:?}");
        }
    }
}

/// Layers put below each other form one stack. The one that was put last is next to the wire.
#[test]
fn tls_goes_over_tls() {
    let world = World::new();
    for split in [Split::Whole, Split::Every(1)] {
        let ours = client(world.client_config(), client(world.client_config(), plain()));
        let theirs = server(world.server_config(), server(world.server_config(), plain()));
        let mut pair = Pair::new(ours, theirs, config()).wires(Wire { split, ..Wire::default() }).lending();
        pair.b.on_event(|session, now, event| match event {
            Event::Message(message) => drop(session.send(message.clone()).unwrap()),
            Event::Eof => session.close(now, Close::graceful()),
            _ => {}
        });
        pair.settle();
        let stack = pair.a.session.protocol().layer();
        assert!(!stack.outer().is_handshaking() && !stack.inner().is_handshaking());
        let sent = [Bytes::from("hello"), Bytes::from(vec![7; 300_000]), Bytes::new()];
        for message in &sent {
            pair.a.session.send(message.clone()).unwrap();
            pair.settle();
        }
        assert_eq!(pair.a.messages(), sent);
        pair.a.session.close(pair.clock.now(), Close::graceful());
        assert!(pair.run_until_closed(secs(1)));
        for reason in [pair.a.close_reason(), pair.b.close_reason()] {
            assert!(reason.is_some_and(CloseReason::is_clean), "{reason:?}");
        }
    }
}

#[test]
fn what_fails_in_a_stack_is_the_reason() {
    let world = World::new();
    // The inner server's certificate is from an authority that the client does not trust.
    let stranger = World::new();
    let ours = client(world.client_config(), client(world.client_config(), plain()));
    let theirs = server(world.server_config(), server(stranger.server_config(), plain()));
    let mut pair = Pair::new(ours, theirs, config());
    pair.settle();
    assert!(matches!(tls_error(&pair.a), TlsError::Certificate(_)));
    assert!(matches!(tls_error(&pair.b), TlsError::Refused(_)), "the alert goes through the outer layer");

    // The outer layer ends, and the inner one does not.
    let ours = client(world.client_config(), plain());
    let theirs = server(world.server_config(), server(world.server_config(), plain()));
    let mut pair = Pair::new(ours, theirs, config());
    pair.settle();
    pair.a.session.close(pair.clock.now(), Close::graceful());
    pair.settle();
    assert_eq!(tls_error(&pair.b), TlsError::EndedInHandshake);
}

/// A wall clock that is set by the test.
#[derive(Debug, Default)]
struct WallClock(AtomicU64);

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(secs(self.0.load(Ordering::SeqCst))))
    }
}

/// A certificate is checked when a session begins, by the clock that was passed in. Nothing else depends on
/// the date.
#[test]
fn a_wall_clock_that_jumps_matters_to_new_sessions_only() {
    const YEAR: u64 = 365 * 86_400;
    let world = World::new();
    let clock = Arc::<WallClock>::default();
    let pair = || {
        let config = rustls::ClientConfig::builder_with_details(
            Arc::new(rustls::crypto::ring::default_provider()),
            clock.clone(),
        )
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(world.authority.roots())
        .with_no_client_auth();
        let mut pair =
            Pair::new(client(config, plain()), server(world.server_config(), plain()), self::config());
        echoes(&mut pair.b);
        pair.settle();
        pair
    };
    clock.0.store(50 * YEAR, Ordering::SeqCst);
    let mut before = pair();
    // The certificates of these tests are valid from 1975 to 4096.
    for (years, end) in [(5000, Some("it has expired")), (0, Some("it is not valid yet")), (51, None)] {
        clock.0.store(years * YEAR, Ordering::SeqCst);
        let new = pair();
        match end {
            None => assert_eq!(told(&new.a), ["Open"]),
            Some(words) => {
                let reason = new.a.close_reason().unwrap().to_string();
                assert!(reason.contains(words), "{reason}");
            }
        }
        before.a.session.send(Bytes::from("still")).unwrap();
        before.settle();
        assert_eq!(told(&before.a).last().unwrap(), "Message still");
        before.a.events.clear();
    }
}

/// Counted for the budget of a turn: opening a record takes time, however little it holds.
#[test]
fn records_count_as_work() {
    let (mut client, mut server) = shaken(&World::new());
    let before = server.session.work();
    for _ in 0..100 {
        client.session.send(Bytes::new()).unwrap();
        let record = client.written();
        server.input(&record);
    }
    assert_eq!(server.poll().len(), 100);
    let after = server.session.work();
    // A record adds 22 bytes.
    assert_eq!((after.frames - before.frames, after.bytes), (100 + 200, 0), "messages, and records");
}

/// Records that mean nothing to the protocol count by their bytes: changing keys takes as long as dozens of
/// frames.
#[test]
fn changes_of_keys_count_as_work() {
    let world = World::new();
    let name = "localhost".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(world.client_config()), name).unwrap();
    let mut server = Solo::new(server(world.server_config(), plain()));
    let mut exchange = |client: &mut rustls::ClientConnection| {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.input(&wire);
        let answer = server.written();
        client.read_tls(&mut &answer[..]).unwrap();
        client.process_new_packets().unwrap();
        (wire.len(), server.session.work().frames)
    };
    for _ in 0..3 {
        exchange(&mut client);
    }
    assert!(!client.is_handshaking());
    let (_, before) = exchange(&mut client);
    let mut sent = 0;
    for _ in 0..20 {
        client.refresh_traffic_keys().unwrap();
        sent += exchange(&mut client).0;
    }
    let (_, after) = exchange(&mut client);
    assert!(
        after - before >= sent as u64 / 9 && sent > 20 * 20,
        "{} frames for {sent} bytes",
        after - before
    );
}
