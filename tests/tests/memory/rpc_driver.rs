//! Allocations and memory of RPC sessions that are driven, by count.

use std::cell::RefCell;
use std::future::IntoFuture;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};
use getty_core::rpc::Frame;
use getty_core::{Config, Session};
use getty_driver::rpc::{self, Caller, Raw, Services, Status};
use getty_driver::{Driver, Io, Items, Listener, ListenerFactory};
use testkit::alloc::measure;

use crate::driver_common::fake::{self, Fake};
use crate::driver_common::task::Task;

/// One end of a pipe in memory. The test polls both ends.
struct Pipe {
    input: Rc<RefCell<Vec<u8>>>,
    output: Rc<RefCell<Vec<u8>>>,
}

fn pipes() -> [Pipe; 2] {
    let [a, b] = [0; 2].map(|_| Rc::new(RefCell::new(Vec::with_capacity(64 * 1024))));
    [Pipe { input: a.clone(), output: b.clone() }, Pipe { input: b, output: a }]
}

impl Io for Pipe {
    fn poll_read(
        &mut self,
        _cx: &mut Context<'_>,
        buf: &mut Limit<&mut BytesMut>,
    ) -> Poll<io::Result<usize>> {
        let mut input = self.input.borrow_mut();
        if input.is_empty() {
            return Poll::Pending;
        }
        let n = input.len().min(buf.remaining_mut());
        buf.put_slice(&input[..n]);
        input.drain(..n);
        Poll::Ready(Ok(n))
    }

    fn poll_write(&mut self, _cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut output = self.output.borrow_mut();
        let before = output.len();
        pieces.iter().for_each(|piece| output.extend_from_slice(piece));
        Poll::Ready(Ok(output.len() - before))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A client and servers that echo, each with a poll that lets its task have a turn.
struct World {
    /// None where the sessions are silent.
    caller: Option<Caller>,
    turns: Vec<Box<dyn FnMut()>>,
}

/// The ways of calls.
#[derive(Clone, Copy)]
enum Way {
    One,
    Pool,
}

/// A session with a server that echoes.
fn session(listener: impl Listener<Items<Frame>> + 'static, wasteful: bool) -> [Box<dyn FnMut()>; 2] {
    let services = Services::new().method("t.T/Echo", Raw, move |_call, text: bytes::Bytes| async move {
        let text = if wasteful { bytes::Bytes::from(text.to_vec()) } else { text };
        Ok::<_, Status>(text)
    });
    ends(listener, services.listener())
}

/// The tasks of a client and a server.
pub fn ends(
    client: impl Listener<Items<Frame>> + 'static,
    server: impl Listener<Items<Frame>> + 'static,
) -> [Box<dyn FnMut()>; 2] {
    let [near, far] = pipes();
    let session = || Session::new(rpc::frames(), Config::default().into(), fake_now());
    let mut server = Task::new(Driver::<Fake, _, _, _>::new(session(), far, server));
    let mut client = Task::new(Driver::<Fake, _, _, _>::new(session(), near, client));
    [
        Box::new(move || assert!(client.poll().is_pending())),
        Box::new(move || assert!(server.poll().is_pending())),
    ]
}

impl World {
    fn new(way: Way, wasteful: bool) -> Self {
        let (turns, caller) = match way {
            Way::One => {
                let (peer, caller) = rpc::peer(Services::new());
                (Vec::from(session(peer, wasteful)), caller)
            }
            Way::Pool => {
                let (peers, caller) = rpc::peers::<Fake>(Services::new());
                let sessions = [(); 2].map(|()| session(peers.make(), wasteful));
                (sessions.into_iter().flatten().collect(), caller)
            }
        };
        World { caller: Some(caller), turns }
    }

    fn turn(&mut self) {
        self.turns.iter_mut().for_each(|turn| turn());
    }

    /// Calls `count` times, with `depth` calls at once.
    fn call(&mut self, count: usize, depth: usize) {
        const TEXT: &[u8] = b"sixteen bytes...";
        let mut cx = Context::from_waker(Waker::noop());
        let caller = self.caller.clone().expect("a caller");
        let mut calls = Vec::with_capacity(depth);
        for _ in 0..count / depth {
            for _ in 0..depth {
                calls.push(caller.call::<_, _, bytes::Bytes>("t.T/Echo", Raw, TEXT).into_future());
            }
            self.turn();
            self.turn();
            for call in calls.drain(..) {
                let Poll::Ready(answer) = pin!(call).poll(&mut cx) else { panic!("no answer") };
                assert_eq!(answer.unwrap(), TEXT);
            }
        }
    }
}

fn fake_now() -> getty_core::Timestamp {
    getty_driver::now::<Fake>()
}

/// Allocations for each call of 16 B, of both sides together.
fn allocations(way: Way, depth: usize, wasteful: bool) -> f64 {
    const CALLS: usize = 10_000;
    let mut world = World::new(way, wasteful);
    world.turn();
    world.call(1000, depth);
    let timers = fake::timer_counts();
    let ((), usage) = measure(|| world.call(CALLS, depth));
    assert_eq!(fake::timer_counts(), timers, "no call moves a timer");
    usage.allocations as f64 / CALLS as f64
}

#[test]
fn a_call_allocates_nothing_in_the_steady_state() {
    for depth in [1, 50] {
        for way in [Way::One, Way::Pool] {
            let each = allocations(way, depth, false);
            assert!(each <= 0.1, "{each} allocations a call with {depth} at once");
        }
    }
    assert!(allocations(Way::Pool, 1, true) >= 1.0, "the count notices an allocation");
}

#[test]
fn the_memory_of_calls_is_given_up_when_there_are_none() {
    let busy_then_idle = || {
        let mut world = World::new(Way::One, false);
        world.turn();
        let (world, usage) = measure(|| {
            world.call(1000, 50);
            for _ in 0..4 {
                fake::advance(Duration::from_secs(1));
                world.turn();
            }
            world
        });
        drop(world);
        usage
    };
    busy_then_idle(); // what is made once in a process is not counted
    let usage = busy_then_idle();
    assert!(usage.peak > 10_000 && usage.live.abs() <= 64, "{usage:?}");
}

/// Takes no messages.
pub struct Silent;

impl Listener<Items<Frame>> for Silent {
    fn on_message(&mut self, _: &mut getty_driver::Context<'_, Items<Frame>>, _: Frame) {}
}

/// What each end of a connection takes beyond its session, where it has had 1000 calls and then none for 5
/// seconds.
#[test]
fn an_idle_connection_holds_little_beyond_its_session() {
    const CONNECTIONS: usize = 8;
    // Made once for all connections.
    let services = Services::new()
        .method("t.T/Echo", Raw, |_call, text: bytes::Bytes| async move { Ok::<_, Status>(text) });
    let own = Services::new();
    let idle = |connect: &dyn Fn() -> World| {
        let (worlds, usage) = measure(|| {
            let mut worlds: Vec<World> = (0..CONNECTIONS).map(|_| connect()).collect();
            worlds.iter_mut().for_each(World::turn);
            worlds.iter_mut().filter(|world| world.caller.is_some()).for_each(|world| world.call(1000, 50));
            for _ in 0..5 {
                fake::advance(Duration::from_secs(1));
                worlds.iter_mut().for_each(World::turn);
            }
            worlds
        });
        drop(worlds);
        usage.live / (2 * CONNECTIONS as i64)
    };
    let silent = || World { caller: None, turns: ends(Silent, Silent).into() };
    let rpc = || {
        let (peer, caller) = rpc::peer(own.clone());
        World { caller: Some(caller), turns: ends(peer, services.listener()).into() }
    };
    let [silent, rpc]: [&dyn Fn() -> World; 2] = [&silent, &rpc];
    idle(rpc); // what is made once in a process is not counted
    let (silent, rpc) = (idle(silent), idle(rpc));
    assert!(rpc - silent <= 512, "{} bytes beyond {silent}", rpc - silent);
}
