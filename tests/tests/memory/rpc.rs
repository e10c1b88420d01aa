//! Allocations of RPC frames, by count.

use bytes::{Buf, BufMut, Bytes};
use getty_core::rpc::{CodecName, Frame, Frames, Metadata, Reply, Request};
use getty_core::{Config, Event, Framed, Memory, Session, Timestamp};
use testkit::alloc::measure;

const NOW: Timestamp = Timestamp::ORIGIN;

type Peer = Session<Framed<Frames>>;

fn peer() -> Peer {
    let config = Config::builder().watermarks(1 << 20, 1 << 20).build().unwrap();
    Session::new(Framed::new(Frames::new()), config, NOW)
}

/// Sends `frames` 20 times from one session to the other, both in lent memory, and counts what came.
fn send(
    from: &mut Peer,
    to: &mut Peer,
    memory: &mut [Option<Memory>; 2],
    frames: &[Frame],
    count: &mut usize,
) {
    from.lend(memory[0].take().unwrap());
    to.lend(memory[1].take().unwrap());
    for frame in frames.iter().cycle().take(20 * frames.len()) {
        from.send(frame.clone()).unwrap();
    }
    let mut out = from.outbound(NOW);
    while out.has_remaining() {
        let n = out.chunk().len();
        to.recv_buf().put_slice(out.chunk());
        to.handle_read(NOW);
        out.advance(n);
    }
    drop(out);
    while let Some(event) = to.poll_event() {
        match event {
            Event::Message(frame) => {
                assert_eq!(frame, frames[*count % frames.len()]);
                *count += 1;
            }
            Event::Open(_) => {}
            other => panic!("{other:?}"),
        }
    }
    *memory = [Some(from.take_back()), Some(to.take_back())];
}

/// A call takes no memory of its own, neither for its method nor for its metadata. The bodies are slices of
/// what was read, or copies in a block that small frames share.
#[test]
fn requests_and_replies_allocate_nothing() {
    let mut metadata = Metadata::new();
    metadata.insert("tenant", "a").unwrap();
    metadata.insert("user", "b").unwrap();
    for (size, metadata) in
        [(16, Metadata::new()), (16, metadata.clone()), (1024, metadata), (0, Metadata::new())]
    {
        let body = Bytes::from(vec![7; size]);
        let mut request = Request::new("chat.v1.Room/Who", CodecName::Protobuf, body.clone());
        request.metadata = metadata.clone();
        request.timeout = Some(std::time::Duration::from_millis(200));
        let own = Request { codec: CodecName::Other("mine".into()), ..request.clone() };
        let reply = Reply { metadata, body: body.into() };
        let frames = [Frame::Request(3, request), Frame::Request(5, own), Frame::Reply(3, reply)];
        let (mut client, mut server) = (peer(), peer());
        let mut memory = [Some(Memory::new()), Some(Memory::new())];
        let mut count = 0;
        (0..20).for_each(|_| send(&mut client, &mut server, &mut memory, &frames, &mut count));
        let ((), usage) = measure(|| {
            (0..20).for_each(|_| send(&mut client, &mut server, &mut memory, &frames, &mut count));
        });
        assert_eq!(count, 40 * 20 * frames.len());
        assert_eq!(usage.allocations, 0, "bodies of {size} bytes");
    }
}

#[test]
fn frames_and_metadata_are_small() {
    assert!(size_of::<Metadata>() <= 32, "{} bytes", size_of::<Metadata>());
    assert!(size_of::<Frame>() <= 208, "{} bytes", size_of::<Frame>());
}
