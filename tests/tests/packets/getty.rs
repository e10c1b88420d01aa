//! Datagrams written by Go getty: by its UDP echo example and its client.

use bytes::Bytes;
use getty_core::codec::{Decoded, Decoder, Encoder, Raw, Sink, Source};
use getty_core::datagram::PacketOptions;

use crate::packets_common::{NONE, Solo, bytes, peer, secs};

/// The package of getty's echo examples: a little-endian header of 32 bytes, one byte of length, and the
/// text. An item is the whole package, so that an echo has the same bytes.
#[derive(Debug, Clone, Copy)]
struct EchoPackage;

const MAGIC: [u8; 4] = 0x2016_0905_u32.to_le_bytes();
const HEADER: usize = 32;

#[derive(Debug, thiserror::Error)]
enum PackageError {
    #[error("another protocol")]
    Magic,
    #[error("a body of {0} bytes")]
    Length(usize),
}

impl Decoder for EchoPackage {
    type Item = Bytes;
    type Error = PackageError;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, PackageError> {
        if src.len() < HEADER {
            return Ok(Decoded::Need(HEADER - src.len()));
        }
        if src[..4] != MAGIC {
            return Err(PackageError::Magic);
        }
        let length = usize::from(u16::from_le_bytes([src[24], src[25]]));
        if length == 0 || length > 256 {
            return Err(PackageError::Length(length));
        }
        let package = HEADER + length;
        if src.len() < package {
            return Ok(Decoded::Need(package - src.len()));
        }
        Ok(Decoded::Frame(src.take(package)))
    }
}

impl Encoder<Bytes> for EchoPackage {
    type Error = PackageError;

    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), PackageError> {
        dst.put_bytes(item);
        Ok(())
    }

    fn encoded_len(&self, item: &Bytes) -> Option<usize> {
        Some(item.len())
    }
}

/// The reply of the example's server: the same package, but with `pong` to a heartbeat.
fn answer(package: &[u8]) -> Bytes {
    let mut answer = package.to_vec();
    if answer[16..20] == [0; 4] {
        answer[HEADER + 1..].copy_from_slice(b"pong");
    }
    answer.into()
}

fn package(sequence: u8, text: &str) -> Bytes {
    let mut package = [0; HEADER];
    package[..4].copy_from_slice(&MAGIC);
    (package[8], package[16], package[24]) = (sequence, 1, text.len() as u8 + 1);
    [&package[..], &[text.len() as u8], text.as_bytes()].concat().into()
}

/// A datagram of a recording: the number of its client, its direction, and its bytes.
struct Entry {
    client: u16,
    from_client: bool,
    bytes: Vec<u8>,
}

/// Reads the entries of a recording, whose file has one field on each line.
fn entries(recording: &str) -> Vec<Entry> {
    let (mut client, mut from_client, mut entries) = (0, true, Vec::new());
    for line in recording.lines() {
        let field = line.trim().trim_end_matches(',').split_once(": ");
        let Some((name, value)) = field else { continue };
        let value = value.trim_matches('"');
        match name.trim_matches('"') {
            "client" => client += 1,
            "dir" => from_client = value == "client->server",
            // An entry without bytes is a call that Go getty refused.
            "hex" if !value.is_empty() => entries.push(Entry { client, from_client, bytes: hex(value) }),
            _ => {}
        }
    }
    assert!(entries.len() >= 5, "not a recording");
    entries
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().map(|c| c.to_digit(16).expect("a digit") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

const ECHO: &str = include_str!("../../vectors/getty/udp-echo.json");
const CLIENT: &str = include_str!("../../vectors/getty/udp-client.json");
const PING: &str = "connect-ping";

fn go() -> PacketOptions {
    PacketOptions::unconnected().getty_compat(true)
}

fn written<C>(solo: &mut Solo<C>) -> Vec<(u16, Vec<u8>)>
where
    C: Decoder<Item: AsRef<[u8]>> + Encoder<C::Item>,
{
    let now = solo.clock.now();
    let mut written = Vec::new();
    for transmit in solo.packets.outgoing(now).transmits() {
        let port = transmit.path.map_or(0, |path| path.peer.port());
        written.extend(transmit.datagrams().map(|datagram| (port, datagram.to_vec())));
    }
    solo.packets.handle_sent(now, written.len());
    written
}

/// Connected and unconnected Go clients get the replies that the Go server gave.
#[test]
fn go_clients_are_served() {
    let mut server = Solo::of(EchoPackage, go(), |c| c);
    let mut answers: [Vec<Vec<u8>>; 3] = Default::default();
    let mut compared = 0;
    for Entry { client, from_client, bytes } in entries(ECHO) {
        if from_client {
            server.receive(client, &bytes);
            server.poll_with(|packets, package| {
                packets.reply(answer(&package)).unwrap();
            });
            for (port, bytes) in written(&mut server) {
                answers[usize::from(port)].push(bytes);
            }
        } else {
            assert_eq!(answers[usize::from(client)].remove(0), bytes);
            compared += 1;
        }
    }
    assert_eq!(compared, 12);
    assert_eq!(
        answers.concat(),
        NONE.map(|_: &str| Vec::<u8>::new()),
        "no reply that the Go server did not give"
    );
    let dropped = server.packets.dropped();
    assert_eq!((dropped.connect_pings, dropped.total()), (1, 1));
}

/// Our client sends what the Go client sent, and understands what the Go server replied.
#[test]
fn a_go_server_is_spoken_to() {
    let mut client = Solo::of(EchoPackage, PacketOptions::connected().getty_compat(true), |c| c);
    let entries: Vec<_> = entries(ECHO).into_iter().filter(|entry| entry.client == 1).collect();
    let mut said = Vec::new();
    for entry in entries.iter().skip(1).filter(|entry| entry.from_client) {
        client.packets.send(entry.bytes.clone().into()).unwrap();
        said.extend(written(&mut client).into_iter().map(|(_, bytes)| bytes));
    }
    let expected: Vec<_> =
        entries.iter().filter(|entry| entry.from_client).map(|entry| entry.bytes.clone()).collect();
    assert_eq!(said, expected, "connect-ping first");
    let mut heard = 0;
    for entry in entries.iter().filter(|entry| !entry.from_client) {
        heard += client.told(80, &entry.bytes).iter().filter(|told| told.starts_with("Message")).count();
    }
    assert_eq!((heard, client.packets.dropped().total()), (6, 0));
}

#[test]
fn the_first_datagram_of_a_client_is_connect_ping_with_the_option_alone() {
    for on in [true, false] {
        let mut client = Solo::of(Raw, PacketOptions::connected().getty_compat(on), |c| c);
        assert_eq!(client.packets.wants_write(), on);
        let mut said = Vec::new();
        for entry in entries(CLIENT).into_iter().skip(1) {
            let accepted = client.packets.send(entry.bytes.into()).unwrap();
            assert_eq!(accepted.seq.get(), said.len() as u64 + 1, "the ping does not count as a message");
            said.push(accepted);
        }
        assert_eq!(client.packets.notify_flushed(), said.last().map(|accepted| accepted.seq));
        let written: Vec<_> = written(&mut client).into_iter().map(|(_, bytes)| bytes).collect();
        let recorded: Vec<_> = entries(CLIENT).into_iter().map(|entry| entry.bytes).collect();
        assert_eq!(written, recorded[usize::from(!on)..]);
        assert_eq!(client.poll(), [format!("Flushed {}", said.len())]);
        let sent = client.packets.stats().sent;
        assert_eq!(sent.operations, sent.messages + u64::from(on));
    }
}

#[test]
fn a_connect_ping_that_can_not_be_sent_is_no_message_that_was_not() {
    let mut client = Solo::of(Raw, PacketOptions::connected().getty_compat(true), |c| c);
    client.packets.send(bytes("a")).unwrap();
    client.packets.handle_unsent(client.clock.now(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(client.packets.stats().progress.flushed, None);
    assert_eq!(client.flush(), [(0, "a".to_owned())]);
    assert_eq!(client.packets.stats().progress.flushed.map(|seq| seq.get()), Some(1));
}

#[test]
fn a_connect_ping_is_one_as_the_first_datagram_of_a_peer_only() {
    let mut server = Solo::of(Raw, go(), |c| c);
    assert_eq!(server.told(7, PING), ["Dropped 1 connect-ping of 7: it was Go getty's connect-ping"]);
    assert_eq!(server.told(8, "hello"), ["Message hello"]);
    for port in [7, 8, 7] {
        assert_eq!(server.told(port, PING), ["Message connect-ping"]);
    }
    assert_eq!(server.at(secs(1)), NONE);
    assert_eq!(server.told(9, "connect-ping!"), ["Message connect-ping!"]);
    assert_eq!(server.told(10, PING).len(), 1);
    assert_eq!(server.packets.dropped().connect_pings, 2);
    assert!(!server.packets.wants_write(), "it gets no reply");
}

#[test]
fn a_connected_end_takes_the_ping_of_its_peer_as_one_too() {
    let mut client = Solo::of(Raw, PacketOptions::connected().getty_compat(true), |c| c);
    assert_eq!(client.told(7, PING).len(), 1);
    assert_eq!(client.told(7, PING), ["Message connect-ping"]);
}

#[test]
fn without_the_option_it_is_an_applications_datagram() {
    let mut server = Solo::new();
    assert_eq!(server.told(7, PING), ["Message connect-ping"]);
    let mut server = Solo::of(EchoPackage, PacketOptions::unconnected(), |c| c);
    assert_eq!(server.told(7, PING).len(), 1);
    assert_eq!(server.packets.dropped().undecodable, 1);
}

#[test]
fn our_clients_and_servers_get_along() {
    let mut client = Solo::of(EchoPackage, PacketOptions::connected().getty_compat(true), |c| c);
    let mut server = Solo::of(EchoPackage, go(), |c| c);
    client.packets.send(package(1, "Hello, getty!")).unwrap();
    written(&mut client).into_iter().for_each(|(_, bytes)| server.receive(7, bytes));
    assert_eq!(server.echo().len(), 2);
    for (port, bytes) in written(&mut server) {
        assert_eq!((port, client.told(80, bytes)), (7, vec!["Message of 46".to_owned()]));
    }
    assert!(matches!(
        client.packets.send_to(peer(7), package(2, "")),
        Err(getty_core::SendError::Connected(_))
    ));
}
