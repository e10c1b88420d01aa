//! RPC sessions that serve or call, and their peers.

use std::cell::RefCell;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::FutureExt;
use getty_core::Session;
use getty_core::rpc::Frame;
use getty_driver::rpc::{
    self, Answer, Caller, Config, Decode, Encode, Protobuf, Raw, Receiver, Sender, Services, Status,
};
use getty_driver::{Driver, Items, Listener};
use testkit::rpc_bytes::{Heard, MORE, REPLY, REQUEST, frame, opening, read_preface, request_head};

use crate::peers::{Exchange, Peer, Plain};
use crate::runtime::{Still, Stream, Wire};
use crate::scenes::Task;

/// What calls carry, and what is beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub codec: Codec,
    /// Streams that are open and silent.
    pub streams: u32,
}

/// The codec of the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    Raw,
    Protobuf,
}

/// A message of Protobuf.
#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(bytes = "bytes", tag = "1")]
    text: Bytes,
}

const CALL: &str = "echo.Echo/Echo";
const STREAM: &str = "echo.Echo/Wait";

/// The id of the first call of the side that connected. The following ones are 2 apart.
const FIRST: u32 = 3;

impl Load {
    /// A session that answers, and a peer that makes `depth` calls with `size` bytes in a turn.
    pub fn served(self, size: usize, depth: usize, wire: &Rc<RefCell<Wire>>) -> (Task, Box<dyn Peer>) {
        let config = Config::builder().max_calls(2048).build().expect("valid limits");
        let services = Services::new().config(config).client_streaming(
            STREAM,
            Raw,
            |_, mut items: Receiver<Bytes>| async move {
                while items.recv().await?.is_some() {}
                Ok::<_, Status>(())
            },
        );
        let stream = Stream(wire.clone());
        let text = Bytes::from(vec![b'x'; size]);
        let (task, codec, body): (Task, _, _) = match self.codec {
            Codec::Raw => {
                let services = services.method(CALL, Raw, |_, text: Bytes| async { Ok::<_, Status>(text) });
                (drive(stream, services.listener()), "raw", text.to_vec())
            }
            Codec::Protobuf => {
                let services =
                    services.method(CALL, Protobuf, |_, text: Text| async { Ok::<_, Status>(text) });
                (drive(stream, services.listener()), "proto", prost::Message::encode_to_vec(&Text { text }))
            }
        };
        let head = request_head(CALL, codec);
        let ids = |number: u32, from: u32| (from..from + number).map(|call| FIRST + 2 * call);
        let calls = || ids(depth as u32, self.streams);
        let requests = calls().flat_map(|id| frame(REQUEST, 0, id, &head, &body)).collect();
        let replies = calls().flat_map(|id| frame(REPLY, 0, id, b"", &body)).collect();
        let head = request_head(STREAM, "raw");
        let streams = ids(self.streams, 0).flat_map(|id| frame(REQUEST, MORE, id, &head, b"")).collect();
        (task, Box::new(Calling { streams, calls: Plain::of(requests, replies) }))
    }

    /// A session that calls, its callers, which make `depth` calls with `size` bytes in a turn, and a peer
    /// that answers.
    pub fn called(
        self,
        size: usize,
        depth: usize,
        wire: &Rc<RefCell<Wire>>,
    ) -> (Task, Box<dyn Calls>, Box<dyn Peer>) {
        let (listener, caller) = rpc::peer(Services::new());
        let task = drive(Stream(wire.clone()), listener);
        let text = Bytes::from(vec![b'x'; size]);
        let calls: Box<dyn Calls> = match self.codec {
            Codec::Raw => Box::new(Callers::new(caller, Raw, text, depth, self.streams)),
            Codec::Protobuf => Box::new(Callers::new(caller, Protobuf, Text { text }, depth, self.streams)),
        };
        (task, calls, Box::<Answering>::default())
    }
}

fn drive<L: Listener<Items<Frame>>>(stream: Stream, listener: L) -> Task {
    let session = Session::new(rpc::frames(), Arc::default(), getty_driver::now::<Still>());
    Box::pin(Driver::<Still, _, _, _>::new(session, stream, listener))
}

/// A peer that calls, beside streams of its own.
struct Calling {
    streams: Vec<u8>,
    calls: Plain,
}

impl Peer for Calling {
    fn open(&mut self, exchange: Exchange<'_>) {
        let answer = exchange(&[opening(), std::mem::take(&mut self.streams)].concat());
        let mut answer = &*answer;
        read_preface(&mut answer).expect("the preface comes first");
        Heard::read(&mut answer).expect("then the limits");
        assert!(answer.is_empty(), "a stream was refused");
        for _ in 0..20 {
            assert!(exchange(b"").is_empty(), "a stream was refused"); // as many requests take some turns
        }
    }

    fn send(&mut self, to: &mut Vec<u8>) {
        self.calls.send(to);
    }

    fn receive(&mut self, output: &[u8]) {
        self.calls.receive(output);
    }
}

/// A peer that answers each call with what it was given.
#[derive(Default)]
struct Answering {
    replies: Vec<u8>,
}

impl Peer for Answering {
    fn open(&mut self, exchange: Exchange<'_>) {
        read_preface(&mut &*exchange(b"")).expect("the preface comes first");
        let mut streams = exchange(&opening());
        while !streams.is_empty() {
            streams = exchange(b"");
        }
    }

    fn send(&mut self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.replies);
    }

    fn receive(&mut self, mut output: &[u8]) {
        self.replies.clear();
        while !output.is_empty() {
            let request = Heard::read(&mut output).expect("whole frames");
            assert_eq!(request.kind, REQUEST);
            self.replies.extend(frame(REPLY, 0, request.id, b"", &request.body));
        }
    }
}

/// What calls on a session.
pub trait Calls {
    /// Begins the calls of a turn.
    fn begin(&mut self);

    /// Takes their answers.
    fn end(&mut self);
}

struct Callers<C, T> {
    caller: Caller,
    codec: C,
    value: T,
    answers: Vec<Answer<C, T>>,
    /// They are silent.
    _streams: Vec<(Sender<Bytes>, Answer<Raw, ()>)>,
}

impl<C: Encode<T> + Decode<T>, T: PartialEq + std::fmt::Debug> Callers<C, T> {
    fn new(caller: Caller, codec: C, value: T, depth: usize, streams: u32) -> Self {
        let open = || {
            let call = caller.client_streaming(STREAM, Raw).into_future().now_or_never();
            call.expect("it is ready at once").expect("the session has not ended")
        };
        let _streams = (0..streams).map(|_| open()).collect();
        Callers { caller, codec, value, answers: Vec::with_capacity(depth), _streams }
    }
}

impl<C: Encode<T> + Decode<T>, T: PartialEq + std::fmt::Debug> Calls for Callers<C, T> {
    fn begin(&mut self) {
        let Callers { caller, codec, value, answers, .. } = self;
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..answers.capacity() {
            let mut answer = caller.call(CALL, codec.clone(), value).into_future();
            assert!(Pin::new(&mut answer).poll(&mut cx).is_pending());
            answers.push(answer);
        }
    }

    fn end(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for mut answer in self.answers.drain(..) {
            let Poll::Ready(answer) = Pin::new(&mut answer).poll(&mut cx) else { panic!("no answer") };
            assert!(answer.is_ok_and(|answer| answer == self.value));
        }
    }
}
