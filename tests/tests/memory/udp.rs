//! Allocations and memory of a driven UDP session, by count.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use getty_core::codec::Raw;
use getty_core::datagram::{Outgoing, PacketOptions, Packets, Path, RecvBatch};
use getty_driver::{Listener, PacketDriver, PacketIo};
use testkit::alloc::measure;

use crate::driver_common::Messages;
use crate::driver_common::fake::{self, Fake};
use crate::driver_common::task::Task;

fn path(port: u16) -> Path {
    Path::new(([10, 0, 0, 1], port).into())
}

/// A peer that sends `depth` datagrams at a time, and the next ones once all replies have come.
struct Peer {
    depth: usize,
    due: usize,
    rounds: usize,
}

impl PacketIo for Peer {
    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut RecvBatch) -> Poll<io::Result<()>> {
        if self.due > 0 || self.rounds == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.rounds -= 1;
        self.due = self.depth;
        for port in 0..self.depth {
            assert!(batch.copy_from(path(port as u16), &[b'x'; 16]));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, _cx: &mut Context<'_>, outgoing: &Outgoing) -> Poll<io::Result<usize>> {
        self.due -= outgoing.len();
        Poll::Ready(Ok(outgoing.len()))
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }
}

/// Echoes. If set, also allocates once per message, to show that the test would notice.
struct Copying(bool);

impl Listener<Messages> for Copying {
    fn on_message(&mut self, cx: &mut getty_driver::Context<'_, Messages>, message: Bytes) {
        let message = if self.0 { Bytes::from(message.to_vec()) } else { message };
        cx.send(message).unwrap();
    }
}

/// Returns the allocations per message of 16 B in the steady state, and the peak of the memory held.
fn allocations(depth: usize, wasteful: bool) -> (f64, i64) {
    const ROUNDS: usize = 2000;
    let task = |rounds| {
        let packets =
            Packets::new(Raw, PacketOptions::unconnected(), Arc::default(), getty_driver::now::<Fake>());
        let peer = Peer { depth, due: 0, rounds };
        Task::new(PacketDriver::<Fake, _, _, _, _>::new(packets, peer, Copying(wasteful)))
    };
    let mut warm_up = task(100);
    (0..200).for_each(|_| assert!(warm_up.poll().is_pending()));
    let before = fake::timer_counts();
    let mut measured = task(ROUNDS);
    let ((), usage) = measure(|| (0..ROUNDS + 10).for_each(|_| assert!(measured.poll().is_pending())));
    assert_eq!(measured.get_mut().handle().stats().received.messages, (ROUNDS * depth) as u64);
    assert_eq!(fake::timer_counts(), before, "0 timer resets");
    (usage.allocations as f64 / (ROUNDS * depth) as f64, usage.peak)
}

#[test]
fn the_steady_path_allocates_nothing() {
    for depth in [1, 16, 32] {
        let (per_message, held) = allocations(depth, false);
        assert!(per_message <= 0.1, "depth {depth}: {per_message} allocations per message");
        assert!(held < 64 << 10, "depth {depth}: {held} bytes, besides the thread's own batch");
        let (wasteful, _) = allocations(depth, true);
        assert!(wasteful > 0.9, "depth {depth}: one to_vec() per message must be seen, not {wasteful}");
    }
}
