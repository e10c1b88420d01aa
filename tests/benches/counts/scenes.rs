//! [`Scene`]: a session that echoes, and its peer.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use getty_core::codec::{LengthDelimited, Raw};
use getty_core::datagram::{PacketOptions, Packets};
use getty_core::websocket::{ServerOptions, WebSocket};
use getty_core::{CloseReason, Framed, Items, Protocol, Session};
use getty_driver::{Driver, Listener, PacketDriver};
use testkit::alloc::measure;
use testkit::websocket::peers::Frame;

use crate::peers::{Peer, Plain, Secure, Upgrading};
use crate::rpc::{Calls, Load};
use crate::runtime::{Socket, Still, Stream, Wire};
use crate::tls_common::{World, server};

/// Turns before anything is counted. After these, buffers have their sizes.
const WARM_UP: usize = 100;

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    Tcp,
    /// The server's end: frames come masked.
    WebSocket,
    /// The server's end. The messages of a turn come in one record.
    Tls,
    /// Each message of a turn is from a peer of its own.
    Udp,
    /// RPC over TCP: each message is a request, and its echo the answer.
    RpcServer(Load),
    /// The other end: each message is a call. A turn has two parts, before and after the answers come.
    RpcClient(Load),
}

/// A session in its steady state that echoes `depth` messages each turn.
pub struct Scene {
    task: Task,
    wire: Rc<RefCell<Wire>>,
    peer: Box<dyn Peer>,
    /// What calls, if the session is the calling end.
    calls: Option<Box<dyn Calls>>,
    /// Number of bytes or datagrams that a turn writes.
    written: usize,
}

pub type Task = Pin<Box<dyn Future<Output = Box<CloseReason>>>>;

/// What some turns used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub allocations: u64,
    /// Calls of the transport.
    pub calls: u64,
}

struct Echo;

impl<T: 'static> Listener<Items<T>> for Echo {
    fn on_message(&mut self, cx: &mut getty_driver::Context<'_, Items<T>>, message: T) {
        assert!(cx.send(message).is_ok());
    }
}

impl Scene {
    /// Makes a session, opens it and warms it up.
    pub fn new(carrier: Carrier, size: usize, depth: usize) -> Self {
        let wire = Rc::<RefCell<Wire>>::default();
        let payload = vec![b'x'; size];
        let framed = [&(size as u32).to_be_bytes()[..], &payload].concat();
        let mut calls = None;
        let lengths = || Framed::<LengthDelimited>::new(LengthDelimited::new());
        let (task, peer): (Task, Box<dyn Peer>) = match carrier {
            Carrier::Tcp => (stream(lengths(), &wire), Box::new(Plain::new(depth, &framed, &framed))),
            Carrier::WebSocket => {
                let reply = Frame::binary(payload);
                let sent = reply.clone().masked([0x37, 0xfa, 0x21, 0x3d]);
                let peer = Upgrading(Plain::new(depth, &sent.bytes(), &reply.bytes()));
                (stream(WebSocket::server(ServerOptions::new()), &wire), Box::new(peer))
            }
            Carrier::Tls => {
                let world = World::new();
                let protocol = server(world.server_config(), lengths());
                (stream(protocol, &wire), Box::new(Secure::new(&world, framed.repeat(depth))))
            }
            Carrier::Udp => {
                let now = getty_driver::now::<Still>();
                let packets = Packets::new(Raw, PacketOptions::unconnected(), Arc::default(), now);
                let socket = Socket { wire: wire.clone(), size };
                let task = PacketDriver::<Still, _, _, Bytes, _>::new(packets, socket, Echo);
                (Box::pin(task), Box::new(Plain::new(depth, &payload, &payload)))
            }
            Carrier::RpcServer(load) => load.served(size, depth, &wire),
            Carrier::RpcClient(load) => {
                let (task, callers, peer) = load.called(size, depth, &wire);
                calls = Some(callers);
                (task, peer)
            }
        };
        let mut scene = Scene { task, wire, peer, calls, written: 0 };
        scene.warm_up();
        scene
    }

    fn warm_up(&mut self) {
        let Scene { task, wire, peer, calls, .. } = self;
        wire.borrow_mut().keeps_output = true;
        let mut exchange = |input: &[u8]| {
            wire.borrow_mut().send(|to| to.extend_from_slice(input));
            assert!(poll(task));
            std::mem::take(&mut wire.borrow_mut().output)
        };
        peer.open(&mut exchange);
        for _ in 0..WARM_UP {
            let mut input = Vec::new();
            if let Some(calls) = calls {
                calls.begin();
                peer.receive(&exchange(b""));
                peer.send(&mut input);
                assert_eq!(exchange(&input), b"");
                calls.end();
            } else {
                peer.send(&mut input);
                peer.receive(&exchange(&input));
            }
        }
        self.written = wire.borrow().written;
        // From here on, the number of bytes must do.
        wire.borrow_mut().keeps_output = false;
    }

    /// Takes `turns` turns.
    pub fn turns(&mut self, turns: usize) -> Usage {
        let before = self.wire.borrow().calls;
        let mut allocations = 0;
        for _ in 0..turns {
            if let Some(calls) = &mut self.calls {
                let (is_pending, usage) = measure(|| counted_turn_begins(&mut **calls, &mut self.task));
                allocations += usage.allocations;
                assert!(is_pending);
            }
            self.wire.borrow_mut().send(|to| self.peer.send(to));
            let (is_pending, usage) = measure(|| match &mut self.calls {
                None => counted_turn(&mut self.task),
                Some(calls) => counted_turn_ends(&mut **calls, &mut self.task),
            });
            allocations += usage.allocations;
            let wire = self.wire.borrow();
            assert!(is_pending && !wire.is_unread && wire.written == self.written, "one turn echoes all");
        }
        Usage { allocations, calls: self.wire.borrow().calls - before }
    }
}

fn stream<P>(protocol: P, wire: &Rc<RefCell<Wire>>) -> Task
where
    P: Protocol + 'static,
    Echo: Listener<P::Messages>,
{
    let session = Session::new(protocol, Arc::default(), getty_driver::now::<Still>());
    Box::pin(Driver::<Still, _, _, _>::new(session, Stream(wire.clone()), Echo))
}

/// The name of [`counted_turn`] and of the two parts of a turn that calls, for callgrind.
pub const COUNTED_TURN: &str = "*counted_turn*";

/// Takes a turn. Callgrind counts what is called from here, and nothing else.
#[inline(never)]
fn counted_turn(task: &mut Task) -> bool {
    poll(task)
}

/// Begins calls, and sends them.
#[inline(never)]
fn counted_turn_begins(calls: &mut dyn Calls, task: &mut Task) -> bool {
    calls.begin();
    poll(task)
}

/// Takes the answers to calls.
#[inline(never)]
fn counted_turn_ends(calls: &mut dyn Calls, task: &mut Task) -> bool {
    let is_pending = poll(task);
    calls.end();
    is_pending
}

#[inline(always)]
fn poll(task: &mut Task) -> bool {
    task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
}
