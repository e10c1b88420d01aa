//! Events of a datagram session: messages, dropped datagrams, and the progress of sent ones.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use getty_core::codec::{
    Decoded, Decoder, Delimited, Encoder, FixedLength, LengthDelimited, Lines, Raw, Sink, Source,
};
use getty_core::datagram::{DropReason, PacketOptions, RecvBatch};
use getty_core::{Event, SendError};

use crate::packets_common::{NONE, NS, Solo, batch, bytes, path, peer, secs};

fn unconnected() -> PacketOptions {
    PacketOptions::unconnected()
}

fn several() -> PacketOptions {
    unconnected().several_frames(true)
}

#[test]
fn open_comes_first() {
    let mut solo = Solo::unpolled(Raw, unconnected(), |c| c);
    solo.receive(7, "a");
    solo.receive(7, "");
    let told = solo.poll();
    assert_eq!(told, ["Open", "Message a", "Dropped 1 empty of 7: it was empty"]);
}

#[test]
fn each_reply_goes_to_where_its_message_came_from() {
    let mut solo = Solo::new();
    for (port, text) in [(7, "a"), (8, "b"), (7, "c")] {
        solo.receive(port, text);
    }
    assert_eq!(solo.echo(), ["Message a", "Message b", "Message c"]);
    assert_eq!(solo.flush(), [(7, "a".to_owned()), (8, "b".to_owned()), (7, "c".to_owned())]);
}

#[test]
fn a_reply_leaves_from_the_address_that_was_asked() {
    let mut solo = Solo::new();
    let asked = path(7).with_local(std::net::IpAddr::from([10, 0, 0, 1]));
    assert!(solo.packets.handle_datagram(solo.clock.now(), asked, b"a"));
    solo.echo();
    let transmit = solo.packets.outgoing(solo.clock.now()).transmits().next().unwrap();
    assert_eq!(transmit.path, Some(asked));
}

#[test]
fn the_path_is_that_of_the_message_and_gone_with_the_next_event() {
    let mut solo = Solo::new();
    assert_eq!(solo.packets.path(), None);
    assert!(matches!(solo.packets.reply(bytes("a")), Err(SendError::NoPeer(item)) if item == "a"));
    solo.receive(7, "a");
    solo.receive(8, "b");
    for port in [7, 8] {
        assert!(solo.next().is_some());
        assert_eq!(solo.packets.path(), Some(path(port)));
    }
    assert_eq!(solo.next(), None);
    assert_eq!(solo.packets.path(), None);
    assert!(matches!(solo.packets.reply(bytes("a")), Err(SendError::NoPeer(_))));
}

#[test]
fn a_connected_socket_sends_to_its_peer_alone() {
    let mut solo = Solo::connected();
    solo.packets.send(bytes("a")).unwrap();
    let refused = solo.packets.send_to(peer(7), bytes("b")).unwrap_err();
    assert!(matches!(refused, SendError::Connected(_)));
    assert_eq!(refused.into_item(), Some(bytes("b")));
    solo.receive(7, "c");
    assert_eq!(solo.echo(), ["Message c"]);
    solo.packets.reply(bytes("d")).unwrap(); // it has only one peer, with or without a message to reply to
    assert_eq!(solo.flush(), ["a", "c", "d"].map(|text| (0, text.to_owned())));
}

#[test]
fn an_unconnected_socket_has_to_be_told_whom_to_send_to() {
    let mut solo = Solo::new();
    let refused = solo.packets.send(bytes("a")).unwrap_err();
    assert!(matches!(refused, SendError::NoPeer(_)));
    assert_eq!(refused.into_item(), Some(bytes("a")));
    solo.packets.send_to(peer(7), bytes("b")).unwrap();
    assert_eq!(solo.flush(), [(7, "b".to_owned())]);
    assert_eq!(solo.packets.stats().refused, 0, "the item itself was not refused");
}

#[test]
fn what_is_too_large_to_send_is_given_back() {
    let mut solo = Solo::with(|c| c.max_datagram(5));
    solo.packets.send_to(peer(7), bytes("12345")).unwrap();
    let refused = solo.packets.send_to(peer(7), bytes("123456")).unwrap_err();
    assert!(matches!(refused, SendError::TooLarge { bytes: 6, limit: 5, .. }));
    assert_eq!(refused.into_item(), Some(bytes("123456")));
    assert_eq!(solo.packets.stats().refused, 1);
    assert_eq!(solo.flush(), [(7, "12345".to_owned())]);
}

/// Does not report sizes beforehand. Fails on the item `fail`, but only after writing it.
#[derive(Debug)]
struct Blind;

impl Decoder for Blind {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, src: &mut Source<'_>) -> io::Result<Decoded<Bytes>> {
        Raw.decode(src).map_err(io::Error::other)
    }
}

impl Encoder<Bytes> for Blind {
    type Error = io::Error;

    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> io::Result<()> {
        dst.put_bytes(item.clone());
        if item == "fail" { Err(io::Error::other("it says so")) } else { Ok(()) }
    }
}

#[test]
fn what_fails_to_encode_leaves_nothing_behind() {
    let mut solo = Solo::of(Blind, unconnected(), |c| c.max_datagram(5));
    solo.packets.send_to(peer(7), bytes("a")).unwrap();
    let before = solo.packets.stats();
    for (text, why) in [("fail", "it says so"), ("123456", "it takes 6 bytes, more than the limit of 5")] {
        let refused = solo.packets.send_to(peer(7), bytes(text)).unwrap_err();
        assert!(matches!(&refused, SendError::Encode(error) if error.to_string().starts_with(why)));
    }
    let after = solo.packets.stats();
    assert_eq!((after.refused, after.queued, after.progress), (2, before.queued, before.progress));
    solo.packets.send_to(peer(7), bytes("b")).unwrap();
    assert_eq!(solo.flush(), [(7, "a".to_owned()), (7, "b".to_owned())]);
}

#[test]
fn whatever_is_wrong_with_a_datagram_the_session_goes_on() {
    let frame = |text: &str| [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat();
    let mut solo = Solo::of(LengthDelimited::new(), unconnected(), |c| c.max_datagram(50).max_frame(30));
    let too_large = solo.packets.config().max_datagram() + 1;
    let cases: [(Vec<u8>, &str); 5] = [
        (vec![], "1 empty of 7: it was empty"),
        (vec![0; too_large], "1 oversized of 7: 51 bytes, more than the limit of 50 (Config::max_datagram)"),
        (frame(&"x".repeat(40)), "1 undecodable of 7: it can't be decoded: "),
        (frame("abc")[..6].to_vec(), "1 undecodable of 7: its 6 bytes end within a frame"),
        ([frame("abc"), vec![1, 2]].concat(), "1 undecodable of 7: it had 2 bytes after its frame"),
    ];
    for (n, (datagram, why)) in cases.into_iter().enumerate() {
        solo.at(secs(n as u64 * 10)); // more than a second apart
        let told = solo.told(7, &datagram);
        assert!(told.len() == 1 && told[0].starts_with(&format!("Dropped {why}")), "{told:?}");
        assert_eq!(solo.told(8, frame("good")), ["Message good"]);
    }
    let dropped = solo.packets.dropped();
    assert_eq!((dropped.empty, dropped.oversized, dropped.undecodable, dropped.total()), (1, 1, 3, 5));
    assert!(solo.packets.is_open());
}

#[test]
fn drops_are_told_at_once_and_then_once_a_second_with_sums() {
    let mut solo = Solo::with(|c| c.max_datagram(5));
    assert_eq!(solo.told(7, ""), ["Dropped 1 empty of 7: it was empty"]);
    assert_eq!(solo.packets.poll_timeout(), None, "no report is held back");
    for _ in 0..3 {
        assert_eq!(solo.told(7, ""), NONE);
    }
    assert_eq!(solo.told(8, "123456"), NONE);
    assert_eq!(solo.packets.poll_timeout(), Some(solo.clock.at(secs(1))));
    assert_eq!(solo.at(secs(1) - NS), NONE);
    let sum = "Dropped 3 empty, 1 oversized of 8: 6 bytes, more than the limit of 5 (Config::max_datagram)";
    assert_eq!(solo.at(secs(1)), [sum]);
    assert_eq!(solo.packets.poll_timeout(), None);
    assert_eq!(solo.at(secs(2)), NONE);
    assert_eq!(solo.told(7, ""), ["Dropped 1 empty of 7: it was empty"], "more than a second later");
    assert_eq!(solo.packets.dropped().total(), 6);
}

#[test]
fn messages_come_before_the_report_on_what_lay_between_them() {
    let mut solo = Solo::new();
    for text in ["a", "", "b", "", "c"] {
        solo.receive(7, text);
    }
    let told = solo.poll();
    assert_eq!(told, ["Message a", "Message b", "Message c", "Dropped 2 empty of 7: it was empty"]);
}

#[test]
fn an_error_of_the_codec_is_in_the_report() {
    let mut solo =
        Solo::of(FixedLength::new(NonZeroUsize::new(9).unwrap()), unconnected(), |c| c.max_frame(5));
    solo.receive(7, "a");
    let Some(Event::Dropped(dropped)) = solo.packets.poll_event() else { panic!("no report") };
    assert_eq!(dropped.peer, Some(peer(7)));
    assert!(matches!(&dropped.reason, DropReason::Undecodable(error) if error.to_string().contains('9')));
    assert!(dropped.to_string().starts_with("1 datagrams dropped, the latest of 127.0.0.1:7: it can't"));
}

/// A search goes on where it stopped, but never in another datagram.
#[test]
fn decoders_begin_each_datagram_afresh() {
    let mut solo = Solo::of(Delimited::new("--").unwrap(), unconnected(), |c| c);
    assert_eq!(solo.told(7, "a long one without an end").len(), 1);
    assert_eq!(solo.told(8, "a--"), ["Message a"]);
    assert_eq!(solo.told(7, "abc--tail"), NONE);
    assert_eq!(solo.told(8, "b--"), ["Message b"]);

    let mut solo = Solo::of(Lines::new(), unconnected(), |c| c.max_frame(30));
    assert_eq!(solo.told(7, [0xff; 25]).len(), 1);
    assert_eq!(solo.told(8, "a\n"), ["Message a"]);
    assert_eq!(solo.told(7, "x".repeat(40)), NONE);
    assert_eq!(solo.told(8, "b"), ["Message b"]);
    assert_eq!(solo.told(8, "c\n"), ["Message c"]);
    assert_eq!(solo.packets.dropped().undecodable, 2);
}

/// Consumes the header at once and remembers it: a frame is one byte of length and that many bytes. Counts
/// its resets.
#[derive(Debug, Clone, Default)]
struct Stateful {
    length: Option<usize>,
    resets: Arc<AtomicUsize>,
}

impl Decoder for Stateful {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, src: &mut Source<'_>) -> io::Result<Decoded<Bytes>> {
        let length = match self.length {
            Some(length) => length,
            None => {
                let Some(&length) = src.first() else { return Ok(Decoded::Need(1)) };
                src.advance(1);
                if length == 255 {
                    self.length = Some(0);
                    return Err(io::Error::other("255"));
                }
                *self.length.insert(length.into())
            }
        };
        if src.len() < length {
            return Ok(Decoded::Need(length - src.len()));
        }
        self.length = None;
        Ok(Decoded::Frame(src.take(length)))
    }

    fn reset(&mut self) {
        self.length = None;
        self.resets.fetch_add(1, Ordering::Relaxed);
    }
}

impl Encoder<Bytes> for Stateful {
    type Error = io::Error;

    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> io::Result<()> {
        dst.put_slice(&[item.len() as u8]);
        dst.put_bytes(item);
        Ok(())
    }
}

#[test]
fn a_decoder_with_a_state_is_reset_after_each_bad_datagram_and_not_after_good_ones() {
    let codec = Stateful::default();
    let mut solo = Solo::of(codec.clone(), several(), |c| c);
    let bad: [&[u8]; 4] = [b"\x09abc", b"\x09", b"\xffabc", b"\x01a\xff"];
    for (n, bad) in bad.into_iter().enumerate() {
        solo.told(7, bad);
        assert_eq!(codec.resets.load(Ordering::Relaxed), n + 1, "{bad:?}");
        assert_eq!(solo.told(8, b"\x02ab"), ["Message ab"]);
        assert_eq!(codec.resets.load(Ordering::Relaxed), n + 1);
    }
    assert_eq!(solo.packets.dropped().undecodable, 4);
}

#[test]
fn a_datagram_holds_one_frame_unless_several_are_allowed() {
    let two = |text: &str| text.as_bytes().to_vec();
    let length = two("\0\0\0\x01a\0\0\0\x02bc");
    fn check<C>(codec: C, datagram: &[u8], expected: &[&str])
    where
        C: Decoder<Item: AsRef<[u8]>> + Encoder<C::Item> + Clone,
    {
        let mut one = Solo::of(codec.clone(), unconnected(), |c| c);
        let told = one.told(7, datagram);
        assert!(told.len() == 1 && told[0].contains("bytes after its frame"), "{told:?}");
        assert_eq!(one.packets.dropped().undecodable, 1);

        let mut several = Solo::of(codec, several(), |c| c);
        let expected: Vec<_> = expected.iter().map(|text| format!("Message {text}")).collect();
        for _ in 0..2 {
            several.receive(7, datagram);
            for expected in &expected {
                assert_eq!(several.next().as_ref(), Some(expected));
                assert_eq!(several.packets.path(), Some(path(7)));
            }
            assert_eq!(several.poll(), NONE);
        }
        assert_eq!(several.packets.dropped().total(), 0);
        let stats = several.packets.stats();
        assert_eq!((stats.received.messages, stats.received.operations), (2 * expected.len() as u64, 2));
    }
    check(LengthDelimited::new(), &length, &["a", "bc"]);
    check(Delimited::new("--").unwrap(), &two("a--bc--"), &["a", "bc"]);
    check(Delimited::byte(b'\0').keep_delimiter(), &two("a\0bc\0"), &["a\\x00", "bc\\x00"]);
    check(Lines::new(), &two("a\nbc"), &["a", "bc"]); // the last line needs no line end
    check(Lines::new(), &two("a\r\n\nbc\n"), &["a", "", "bc"]);
    check(FixedLength::new(NonZeroUsize::new(3).unwrap()), &two("abcdef"), &["abc", "def"]);
    check(Stateful::default(), b"\x01a\x00\x02bc", &["a", "", "bc"]);
}

#[test]
fn raw_takes_a_datagram_as_it_is_however_many_frames_are_allowed() {
    for options in [unconnected(), several()] {
        let mut solo = Solo::of(Raw, options, |c| c);
        assert_eq!(solo.told(7, "a\nb"), ["Message a\\nb"]);
    }
}

/// Whole frames are delivered, and the rest counts as one datagram.
#[test]
fn frames_before_a_bad_one_are_messages() {
    let mut solo = Solo::of(LengthDelimited::new(), several(), |c| c.max_frame(30));
    for (tail, why) in
        [(&b"\0\0"[..], "its 2 bytes end within a frame"), (b"\0\0\x0f\0", "it can't be decoded")]
    {
        let told = solo.told(7, [b"\0\0\0\x01a", tail].concat());
        assert_eq!(told[0], "Message a");
        assert!(told[1].starts_with(&format!("Dropped 1 undecodable of 7: {why}")), "{told:?}");
        solo.at(solo.clock.elapsed() + secs(2));
    }
    assert_eq!(solo.packets.dropped().undecodable, 2);
}

#[test]
fn a_last_line_needs_no_end() {
    let mut solo = Solo::of(Lines::new(), unconnected(), |c| c);
    assert_eq!(solo.told(7, "abc"), ["Message abc"]);
    assert_eq!(solo.told(7, "abc\n"), ["Message abc"]);
    assert_eq!(solo.told(7, "\n"), ["Message "]);
    assert_eq!(solo.told(7, "abc"), ["Message abc"]);
}

/// Returns frames without consuming anything.
#[derive(Debug)]
struct Stuck;

impl Decoder for Stuck {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, _src: &mut Source<'_>) -> io::Result<Decoded<Bytes>> {
        Ok(Decoded::Frame(Bytes::new()))
    }
}

impl Encoder<Bytes> for Stuck {
    type Error = io::Error;

    fn encode(&mut self, _item: Bytes, _dst: &mut Sink<'_>) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_decoder_that_makes_no_progress_costs_its_datagram_only() {
    for options in [unconnected(), several()] {
        let mut solo = Solo::of(Stuck, options, |c| c);
        let told = solo.told(7, "a");
        assert!(told.len() == 1 && told[0].contains("without consuming any bytes"), "{told:?}");
        assert_eq!(solo.told(7, "a"), NONE);
    }
}

#[test]
fn what_could_not_be_sent_and_what_did_not_arrive_is_reported() {
    let mut solo = Solo::new();
    for (port, text) in [(7, "a"), (8, "b")] {
        solo.packets.send_to(peer(port), bytes(text)).unwrap();
    }
    let now = solo.clock.now();
    solo.packets.handle_unsent(now, io::ErrorKind::PermissionDenied);
    assert_eq!(solo.poll(), ["Dropped 1 unsent of 7: it did not arrive: permission denied"]);
    assert_eq!(solo.flush(), [(8, "b".to_owned())]);
    solo.packets.handle_unreachable(now, Some(peer(8)), io::ErrorKind::ConnectionRefused);
    solo.packets.handle_unreachable(now, None, io::ErrorKind::HostUnreachable);
    assert_eq!(solo.at(secs(1)), ["Dropped 2 unsent: it did not arrive: host unreachable"]);
    solo.packets.handle_unsent(now, io::ErrorKind::PermissionDenied); // nothing waits to be sent
    assert_eq!(solo.poll(), NONE);
    let stats = solo.packets.stats();
    assert_eq!(solo.packets.dropped().unsent, 3);
    assert_eq!((stats.sent.bytes, stats.sent.operations, stats.sent.messages), (1, 1, 2));
    assert_eq!(stats.progress.flushed.map(|seq| seq.get()), Some(2), "the refused datagram is done, too");
}

#[test]
fn flushed_comes_when_the_socket_has_taken_what_was_accepted_before() {
    let mut solo = Solo::new();
    assert_eq!(solo.packets.notify_flushed(), None);
    for n in 1..=3 {
        let accepted = solo.packets.send_to(peer(7), bytes("abc")).unwrap();
        assert_eq!((accepted.seq.get(), accepted.bytes), (n, 3));
    }
    assert_eq!(solo.packets.notify_flushed().map(|seq| seq.get()), Some(3));
    solo.packets.send_to(peer(7), bytes("later")).unwrap();
    let now = solo.clock.now();
    solo.packets.handle_sent(now, 2);
    assert_eq!(solo.poll(), NONE);
    solo.packets.handle_unsent(now, io::ErrorKind::Other);
    assert_eq!(solo.next().as_deref(), Some("Flushed 3"));
    solo.poll(); // the report
    assert_eq!(solo.flush(), [(7, "later".to_owned())]);
    assert_eq!(solo.poll(), NONE, "no event was requested for it");
    assert_eq!(solo.packets.notify_flushed().map(|seq| seq.get()), Some(4));
    assert_eq!(solo.poll(), ["Flushed 4"], "it was flushed already");
    assert_eq!(solo.poll(), NONE);
}

#[test]
fn a_batch_is_given_back_when_it_is_not_wanted_and_when_it_is_used_up() {
    let mut solo = Solo::new();
    let now = solo.clock.now();
    solo.packets.handle_datagrams(now, batch([(7, &b"a"[..]), (8, b"b")])).unwrap();
    assert!(!solo.packets.wants_read());
    assert!(solo.packets.take_batch().is_none(), "the batch has not been read yet");
    let back = solo.packets.handle_datagrams(now, batch([(9, &b"c"[..])])).unwrap_err();
    assert_eq!(solo.next().as_deref(), Some("Message a"));
    assert!(solo.packets.take_batch().is_none());
    assert_eq!(solo.poll(), ["Message b"]);
    assert!(solo.packets.wants_read());
    assert!(solo.packets.take_batch().unwrap().is_empty());
    assert!(solo.packets.take_batch().is_none());

    solo.packets.handle_datagrams(now, back).unwrap();
    solo.receive(7, "d"); // single datagrams come after the batch
    assert_eq!(solo.next().as_deref(), Some("Message c"));
    let back = solo.packets.handle_datagrams(now, RecvBatch::new()).unwrap_err();
    assert!(back.is_empty());
    assert_eq!(solo.poll(), ["Message d"]);
    assert!(solo.packets.take_batch().is_some());
}

#[test]
fn single_datagrams_wait_for_room() {
    let mut solo = Solo::new();
    let now = solo.clock.now();
    let taken = (0..1000).take_while(|_| solo.packets.handle_datagram(now, path(7), b"a")).count();
    assert_eq!(taken, RecvBatch::SLOTS);
    assert!(solo.next().is_some());
    solo.receive(7, "b");
    assert_eq!(solo.poll().last().map(String::as_str), Some("Message b"));
}

#[test]
fn the_numbers_add_up() {
    let mut solo = Solo::new();
    for (port, text) in [(7, "a"), (8, "bcd"), (7, ""), (9, "ef")] {
        solo.receive(port, text);
    }
    assert_eq!(solo.packets.stats().received.operations, 0, "not decoded yet");
    let at = solo.clock.at(secs(1));
    solo.packets.handle_timeout(at);
    solo.clock.jump(at);
    solo.echo();
    let stats = solo.packets.stats();
    assert_eq!((stats.received.messages, stats.received.bytes, stats.received.operations), (3, 6, 4));
    assert_eq!(stats.received.last, Some(at));
    assert_eq!((stats.sent.messages, stats.sent.bytes, stats.sent.operations), (3, 0, 0));
    assert_eq!((stats.queued, stats.sent.last, stats.progress.flushed), (6, None, None));
    solo.packets.handle_sent(at, 2);
    let stats = solo.packets.stats();
    assert_eq!((stats.queued, stats.sent.bytes, stats.sent.operations), (2, 4, 2));
    solo.packets.handle_sent(at, 1000); // more than there are
    let stats = solo.packets.stats();
    assert_eq!((stats.queued, stats.sent.bytes, stats.sent.operations), (0, 6, 3));
    assert_eq!(stats.sent.last, Some(at));
    let received = stats.received.operations;
    assert_eq!(received, stats.received.messages + solo.packets.dropped().total());
}
