//! Bodies of RPC that are compressed: memory, and turns, by count.

use std::future::IntoFuture;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use getty_driver::rpc::{self, Caller, Compressed, Config, Raw, Services, Status};
use testkit::alloc::measure;

use crate::driver_common::fake;
use crate::rpc_driver::{Silent, ends};

/// A client and a server that compress all that they send.
struct World {
    caller: Caller,
    turns: [Box<dyn FnMut()>; 2],
}

/// Makes such worlds, which share their services and limits.
fn worlds() -> impl Fn() -> World {
    let config = Config::builder().deflate(true).build().unwrap();
    let own = Services::new().config(config.clone());
    let services = Services::new()
        .method("t.T/Echo", Raw, |_call, bytes: Bytes| async move { Ok::<_, Status>(bytes) })
        .config(config)
        .layer(Compressed::new());
    move || {
        let (peer, caller) = rpc::peer(own.clone());
        World { caller: caller.send_compressed(true), turns: ends(peer, services.listener()) }
    }
}

impl World {
    fn turn(&mut self) {
        self.turns.iter_mut().for_each(|turn| turn());
    }

    /// Calls, and returns the number of turns that it takes. `beside` is run in each of them.
    fn call(&mut self, text: &Bytes, mut beside: impl FnMut()) -> usize {
        let mut call = pin!(self.caller.call::<_, _, Bytes>("t.T/Echo", Raw, text).into_future());
        for turn in 1..1000 {
            self.turns.iter_mut().for_each(|turn| turn());
            beside();
            if let Poll::Ready(answer) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                assert!(answer.unwrap() == text);
                return turn;
            }
        }
        panic!("no answer");
    }
}

/// Text that repeats farther than DEFLATE looks back.
fn text(size: usize) -> Bytes {
    let words = (0_u32..).flat_map(|n| format!("{} ", n.wrapping_mul(2_654_435_761) % 997).into_bytes());
    let base: Vec<u8> = words.take(64 * 1024).collect();
    base.into_iter().cycle().take(size).collect()
}

#[test]
fn a_large_body_is_compressed_over_many_turns() {
    const SIZE: usize = 4 << 20;
    let world = worlds();
    let (mut world, mut other) = (world(), world());
    world.turn();
    other.turn();
    let small = Bytes::from_static(b"small");
    let mut answered = 0;
    let turns = world.call(&text(SIZE), || {
        other.call(&small, || ());
        answered += 1;
    });
    // The request, and then the answer: a piece of 64 KiB in a turn.
    assert!(turns >= 2 * SIZE / (64 * 1024), "{turns} turns");
    assert_eq!(answered, turns);
}

#[test]
fn a_connection_holds_nothing_of_compression_when_it_is_idle() {
    const CONNECTIONS: i64 = 8;
    let (world, text) = (worlds(), text(5000));
    let idle = |compresses: bool| {
        let (turns, usage) = measure(|| {
            let mut all = Vec::new();
            for _ in 0..CONNECTIONS {
                if compresses {
                    let mut world = world();
                    world.turn();
                    (0..5).for_each(|_| assert!(world.call(&text, || ()) > 1));
                    all.push((world.turns, Some(world.caller)));
                } else {
                    all.push((ends(Silent, Silent), None));
                }
            }
            for _ in 0..5 {
                fake::advance(Duration::from_secs(1));
                all.iter_mut().for_each(|(turns, _)| turns.iter_mut().for_each(|turn| turn()));
            }
            all
        });
        drop(turns);
        usage.live / (2 * CONNECTIONS)
    };
    idle(true); // what is made once in a thread is not counted
    let (silent, rpc) = (idle(false), idle(true));
    assert!(rpc - silent <= 512, "{} bytes beyond {silent}", rpc - silent);
}
