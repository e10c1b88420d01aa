//! Allocations and memory of datagram sessions, by count.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use getty_core::codec::{Decoded, Decoder, Encoder, LengthDelimited, Raw, Sink, Source};
use getty_core::datagram::{PacketOptions, Packets, RecvBatch};
use getty_core::{Config, Event, SendError, Timestamp};
use testkit::alloc::measure;

use crate::packets_common::path;

const NOW: Timestamp = Timestamp::ORIGIN;

thread_local! {
    /// Made before any measurement.
    static CONFIG: Arc<Config> = Arc::default();
}

fn session<C: Decoder + Encoder<C::Item>>(codec: C) -> Packets<C> {
    let config = CONFIG.with(Arc::clone);
    let mut packets = Packets::new(codec, PacketOptions::unconnected(), config, NOW);
    assert!(matches!(packets.poll_event(), Some(Event::Open(_))));
    packets
}

/// Does one turn as a driver does: a batch in, its replies out.
fn turn<C>(packets: &mut Packets<C>, mut batch: RecvBatch, datagram: &[u8], count: usize) -> RecvBatch
where
    C: Decoder + Encoder<C::Item>,
{
    for n in 0..count {
        assert!(batch.copy_from(path(n as u16 % 5), datagram));
    }
    packets.handle_datagrams(NOW, batch).unwrap();
    let mut sent = 0;
    while packets.wants_poll() {
        match packets.poll_event() {
            Some(Event::Message(message)) => packets.reply(message).map(drop).unwrap(),
            Some(_) => panic!("not a message"),
            None => {}
        }
        if !packets.wants_poll() {
            let n = packets.outgoing(NOW).len();
            sent += n;
            packets.handle_sent(NOW, n);
        }
    }
    assert_eq!(sent, count);
    packets.take_batch().unwrap()
}

#[test]
fn sessions_are_small() {
    assert!(size_of::<Packets<LengthDelimited>>() <= 640, "{}", size_of::<Packets<LengthDelimited>>());
}

#[test]
fn the_steady_path_allocates_next_to_nothing() {
    for size in [1, 16, 512, 1200, 9000, 65_000] {
        for count in [1, 3, RecvBatch::SLOTS] {
            let (mut packets, mut batch) = (session(Raw), Some(RecvBatch::new()));
            let datagram = vec![7; size];
            let mut turns = || {
                for _ in 0..100 {
                    batch = Some(turn(&mut packets, batch.take().unwrap(), &datagram, count));
                }
            };
            turns();
            let ((), usage) = measure(turns);
            let each = usage.allocations as f64 / (100 * count) as f64;
            assert!(each <= 0.1, "{each} allocations for each of {count} datagrams of {size} bytes");
        }
    }
}

/// Fails to encode any item, but only after writing part of it.
struct Failing;

impl Decoder for Failing {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, src: &mut Source<'_>) -> io::Result<Decoded<Bytes>> {
        Raw.decode(src).map_err(io::Error::other)
    }
}

impl Encoder<Bytes> for Failing {
    type Error = io::Error;

    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> io::Result<()> {
        dst.put_bytes(item);
        Err(io::ErrorKind::InvalidData.into())
    }
}

#[test]
fn an_idle_session_holds_no_buffer() {
    drop(session(Raw));
    let datagram = vec![7; 20_000];
    let (_packets, usage) = measure(|| {
        let mut packets = session(Raw);
        for size in [10, 900, 20_000] {
            assert!(packets.handle_datagram(NOW, path(1), &datagram[..size]));
            while let Some(event) = packets.poll_event() {
                let Event::Message(message) = event else { panic!() };
                packets.reply(message).unwrap();
            }
            packets.handle_sent(NOW, 1);
        }
        packets
    });
    assert_eq!(usage.live, 0, "after datagrams one by one");

    let (_packets, usage) = measure(|| {
        let mut packets = session(Raw);
        for size in [1, 9000] {
            drop(turn(&mut packets, RecvBatch::new(), &datagram[..size], 20));
        }
        packets
    });
    assert_eq!(usage.live, 0, "after a batch");

    let (_packets, usage) = measure(|| {
        let mut packets = session(Raw);
        let used = turn(&mut packets, RecvBatch::new(), &[1], 3);
        packets.send_to(path(1), Bytes::from_static(b"before")).unwrap();
        packets.handle_datagrams(NOW, used).unwrap();
        packets.handle_sent(NOW, 1);
        drop(packets.take_batch().unwrap());
        packets
    });
    assert_eq!(usage.live, 0, "after a batch that came while something waited");

    let (_packets, usage) = measure(|| {
        let mut packets = session(Raw);
        for _ in 0..100 {
            packets.send_to(path(1), Bytes::new()).unwrap();
        }
        packets.handle_sent(NOW, 99);
        packets.handle_unsent(NOW, io::ErrorKind::Other);
        drop(packets.poll_event());
        packets
    });
    assert_eq!(usage.live, 0, "after empty datagrams");

    let (_packets, usage) = measure(|| {
        let mut packets = session(Failing);
        let sent = packets.send_to(path(1), Bytes::from_static(&[0; 10_000]));
        assert!(matches!(sent, Err(SendError::Encode(_))));
        packets
    });
    assert_eq!(usage.live, 0, "after an item that could not be encoded");
}
