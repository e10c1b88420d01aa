//! TLS, and what happens at bad moments: each of these was seen going wrong.

mod common;
#[path = "tls_common/solo.rs"]
mod solo;
mod tls_common;

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use common::{plain, secs};
use getty_core::{Close, Config, Memory};
use solo::{Solo, shaken};
use testkit::pair::Pair;
use tls_common::*;

/// Of no type that a record has.
const GARBAGE: &[u8] = &[99; 40];

const ENDED: &str = "Closed: TLS: the peer ended the stream during the handshake: does it speak TLS?";

/// What was sealed is written all the same, since the alert comes behind it: nobody knows what the peer makes of it.
#[test]
fn what_was_sealed_before_a_fault_is_not_told_as_unsent() {
    let world = World::new();
    let (mut client, mut server) = shaken(&world);
    client.session.send(Bytes::from("x")).unwrap();
    drop(client.session.outbound(client.clock.now())); // sealed; the transport is full
    client.session.send(Bytes::from("never sealed")).unwrap();
    client.input(GARBAGE);
    client.poll();
    server.input(&client.written());
    assert!(server.poll().contains(&"Message x".to_owned()));
    let progress = client.session.stats().progress;
    assert_eq!((progress.flushed, progress.unknown.map(|seq| seq.get())), (None, Some(1)));
}

#[test]
fn what_is_not_known_stays_so_when_the_transport_fails_too() {
    let world = World::new();
    let (mut client, _server) = shaken(&world);
    client.session.send(Bytes::from(vec![1; 1000])).unwrap();
    let now = client.clock.now();
    client.session.outbound(now).advance(500);
    client.input(GARBAGE);
    client.poll();
    assert!(client.session.stats().progress.unknown.is_some());
    client.session.handle_io_error(now, ErrorKind::ConnectionReset);
    client.poll();
    assert!(client.session.stats().progress.unknown.is_some());
}

#[test]
fn a_partial_record_behind_a_whole_message_is_watched() {
    let world = World::new();
    let (mut client, mut server) = shaken(&world);
    client.session.send(Bytes::from("one")).unwrap();
    let mut wire = client.written();
    client.session.send(Bytes::from(vec![0; 500])).unwrap();
    wire.extend_from_slice(&client.written()[..300]);
    server.input(&wire);
    assert_eq!(server.poll(), ["Message one"]);
    for at in [30, 31, 61] {
        let now = server.clock.jump(server.clock.at(secs(at)));
        server.session.handle_timeout(now);
    }
    assert_eq!(
        server.poll(),
        ["Closed: timed out: a frame stayed incomplete (Config::partial_frame_timeout)"]
    );
}

#[test]
fn close_notify_is_said_by_a_session_that_holds_no_memory() {
    let world = World::new();
    let (mut client, _server) = shaken(&world);
    client.session.lend(Memory::new());
    let _ = client.session.take_back();
    client.session.close(client.clock.now(), Close::graceful());
    assert!(client.session.wants_write());
    assert!(!client.written().is_empty() && client.session.wants_shutdown());
}

#[test]
fn an_end_and_a_close_before_the_first_write_leave_nothing_to_write() {
    let world = World::new();
    let mut client = Solo::new(client(world.client_config(), plain()));
    client.session.handle_eof(client.clock.now());
    client.session.close(client.clock.now(), Close::graceful());
    assert_eq!(client.poll(), [ENDED]);
    client.written();
    assert!(!client.session.wants_write() && !client.session.wants_shutdown(), "nothing more is wanted");

    let mut client = Solo::new(self::client(world.client_config(), plain()));
    client.session.close(client.clock.now(), Close::graceful());
    client.session.handle_eof(client.clock.now());
    client.poll();
    client.written();
    assert!(!client.session.wants_write());
    assert!(client.session.wants_shutdown());
}

/// A server that speaks no TLS ends so, and a client that only looks whether somebody is there.
#[test]
fn an_end_in_the_handshake_is_named() {
    let world = World::new();
    let mut theirs = Solo::new(server(world.server_config(), plain()));
    let hello = Solo::new(client(world.client_config(), plain())).written();
    theirs.input(&hello);
    let answer = theirs.written();
    for cut in 0..answer.len() {
        let mut client = Solo::new(client(world.client_config(), plain()));
        client.written();
        client.input(&answer[..cut]);
        client.session.handle_eof(client.clock.now());
        assert_eq!(client.poll(), [ENDED], "cut at {cut}");
    }
    for cut in 0..=hello.len() {
        let mut server = Solo::new(server(world.server_config(), plain()));
        server.input(&hello[..cut]);
        server.session.handle_eof(server.clock.now());
        assert_eq!(server.poll(), [ENDED], "cut at {cut}");
        assert!(!server.session.wants_write());
    }
}

/// A peer that speaks something else is named as such; after the handshake the same bytes are only wrong.
#[test]
fn a_peer_that_speaks_no_tls_is_named() {
    let world = World::new();
    const OTHER: &str = "Closed: TLS: the peer speaks another protocol";
    for words in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"220 mail.example ESMTP\r\n", b"\0\0\0\x05hello", GARBAGE]
    {
        let mut client = Solo::new(client(world.client_config(), plain()));
        let mut server = Solo::new(server(world.server_config(), plain()));
        client.written();
        for end in [&mut client, &mut server] {
            end.input(words);
            assert!(!end.written().is_empty(), "an alert");
            end.session.handle_shutdown(end.clock.now());
            end.session.handle_eof(end.clock.now());
            assert_eq!(end.poll(), [OTHER]);
        }
    }
    let (mut client, _server) = shaken(&world);
    client.input(GARBAGE);
    client.written();
    client.session.handle_shutdown(client.clock.now());
    client.session.handle_eof(client.clock.now());
    assert_eq!(client.poll(), ["Closed: TLS: received corrupt message of type InvalidContentType"]);
}

#[test]
fn nothing_is_said_after_the_sending_side_was_ended() {
    let world = World::new();
    let mut client = Solo::new(client(world.client_config(), plain()));
    let mut server = Solo::new(server(world.server_config(), plain()));
    server.input(&client.written());
    client.session.close(client.clock.now(), Close::graceful()); // while it opens
    assert!(client.written().is_empty());
    assert!(client.session.wants_shutdown());
    client.session.handle_shutdown(client.clock.now());
    client.input(&server.written());
    assert!(!client.session.wants_write() && client.written().is_empty());
}

#[test]
fn a_message_that_comes_with_the_end_of_the_handshake_is_delivered_before_a_fault() {
    let world = World::new();
    for together in [false, true] {
        let mut client = Solo::new(client(world.client_config(), plain()));
        let mut server = Solo::new(server(world.server_config(), plain()));
        server.input(&client.written());
        client.input(&server.written());
        let mut wire = client.written();
        client.session.send(Bytes::from("good")).unwrap();
        wire.extend(client.written());
        if together {
            wire.extend_from_slice(GARBAGE);
            server.input(&wire);
        } else {
            server.input(&wire);
            server.input(GARBAGE);
        }
        assert_eq!(server.poll(), ["Open", "Message good"], "together: {together}");
    }
}

/// rustls remembers places in what was received, and panics when that is gone.
#[test]
fn input_after_the_end_of_the_transport_is_ignored() {
    let world = World::new();
    let mut theirs = world.server_config();
    theirs.max_fragment_size = Some(64);
    let mut client = Solo::new(client(world.client_config(), plain()));
    let mut server = Solo::new(server_of(&Arc::new(theirs), plain()));
    server.input(&client.written());
    client.input(&server.written());
    server.input(&client.written());
    client.input(&server.written()[..100]); // a ticket in part
    client.session.close(client.clock.now(), Close::graceful());
    client.session.handle_eof(client.clock.now());
    client.input(b"late");
    assert!(!client.written().is_empty());
}

/// A message with a payload that would be chained is sealed together with its header.
#[test]
fn a_batch_is_sealed_in_as_few_records_as_there_can_be() {
    let world = World::new();
    let (mut client, _server) = shaken(&world);
    for _ in 0..2 {
        client.session.send(Bytes::from(vec![1; 10_000])).unwrap();
    }
    let wire = client.written();
    let (mut records, mut rest) = (0, &wire[..]);
    while let [_, _, _, high, low, ..] = rest {
        records += 1;
        rest = &rest[5 + usize::from(u16::from_be_bytes([*high, *low]))..];
    }
    assert_eq!(records, 2, "20 008 bytes, of which a record holds 16 KiB");
}

/// The protocol's own bytes of a frame that was cut are no part of a message.
#[test]
fn empty_reads_and_writes_are_nothing() {
    let world = World::new();
    let (mut client, mut server) = shaken(&world);
    client.input(&[]);
    assert!(client.written().is_empty() && client.poll().is_empty());
    client.session.outbound(client.clock.now()).advance(100);
    client.session.send(Bytes::new()).unwrap();
    server.input(&client.written());
    assert_eq!(server.poll(), ["Message "]);
}

/// What `openssl req -x509` makes by default is one, and rustls does not take it for a server's.
#[test]
fn a_certificate_of_an_authority_is_named_as_such() {
    let authority = Authority::new("localhost");
    let server_config = server_config(&authority.itself(), &rustls::version::TLS13);
    let ours = client_config(&authority, &rustls::version::TLS13);
    let mut pair =
        Pair::new(client(ours, plain()), server(server_config, plain()), Config::builder().build().unwrap());
    assert!(pair.run_until_closed(secs(1)));
    assert_eq!(
        pair.a.close_reason().unwrap().to_string(),
        "TLS: the peer's certificate is not accepted: it is that of an authority (CA:TRUE), which can only sign others"
    );
}
