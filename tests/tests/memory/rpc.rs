//! Allocations of RPC frames, by count.

use bytes::{Buf, BufMut, Bytes};
use getty_core::rpc::{CodecName, Event as RpcEvent, Frame, Frames, Metadata, Reply, Request};
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

/// A call takes no memory of its own for its method, and one piece each for metadata and for a codec that is
/// not known here. The bodies are slices of what was read, or copies in a block that small
/// frames share.
#[test]
fn requests_and_replies_allocate_nothing() {
    let mut metadata = Metadata::new();
    metadata.insert("tenant", "a").unwrap();
    metadata.insert("user", "b").unwrap();
    for size in [0, 16, 1024] {
        let body = Bytes::from(vec![7; size]);
        let mut request = Request::new("chat.v1.Room/Who", CodecName::Protobuf, body.clone());
        request.timeout = Some(std::time::Duration::from_millis(200));
        let plain = Reply { body: body.clone().into(), ..Reply::default() };
        let reply = Reply { metadata: metadata.clone(), body: body.into() };
        let frames = [Frame::Request(3, request.clone()), Frame::Reply(3, plain), Frame::Reply(3, reply)];
        assert_eq!(allocations(&frames), 0, "bodies of {size} bytes");

        // One where the test makes the copy that it sends, one where it is received.
        let own = Request { codec: CodecName::new("mine"), ..request.clone() };
        *request.metadata_mut() = metadata.clone();
        for request in [request, own] {
            assert_eq!(allocations(&[Frame::Request(3, request)]), 2 * FRAMES, "bodies of {size} bytes");
        }
    }
}

/// The number of frames of each kind that are counted.
const FRAMES: u64 = 20 * 20;

/// Allocations where each of `frames` is sent and received [`FRAMES`] times.
fn allocations(frames: &[Frame]) -> u64 {
    let (mut client, mut server) = (peer(), peer());
    let mut memory = [Some(Memory::new()), Some(Memory::new())];
    let mut count = 0;
    let mut send = || (0..20).for_each(|_| send(&mut client, &mut server, &mut memory, frames, &mut count));
    send();
    let ((), usage) = measure(send);
    assert_eq!(count, 2 * FRAMES as usize * frames.len());
    usage.allocations
}

#[test]
fn frames_and_metadata_are_small() {
    assert!(size_of::<Metadata>() <= 32, "{} bytes", size_of::<Metadata>());
    // A larger one is copied by a call, and it is copied often.
    assert!(size_of::<Frame>() <= 128, "{} bytes", size_of::<Frame>());
    assert!(size_of::<Option<RpcEvent>>() <= 128, "{} bytes", size_of::<Option<RpcEvent>>());
}
