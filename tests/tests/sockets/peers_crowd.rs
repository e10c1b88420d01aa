//! Thousands of peers of a UDP server, each at its own address in 127.0.0.0/8, over real sockets.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use getty_core::codec::Raw;
use getty_core::datagram::PeerLimits;
use getty_core::{CloseReason, Opened};
use getty_driver::{Context, Listener, Refuse};

use crate::driver_common::runtimes::{TestRuntime, blocking, server};
use crate::driver_common::*;
use crate::on_every_runtime;

on_every_runtime!(ten_thousand_have_a_session_each);

/// Number of sockets that a test has open at a time.
const GROUP: usize = 100;

/// Echoes, and counts sessions.
struct Echo(Arc<Counts>);

#[derive(Default)]
struct Counts {
    opened: AtomicUsize,
    closed: AtomicUsize,
}

impl Listener<Messages> for Echo {
    fn on_open(&mut self, _cx: &mut Context<'_, Messages>, _opened: &Opened) -> Result<(), Refuse> {
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_, Messages>, message: Bytes) {
        cx.send(message).unwrap();
    }

    fn on_close(&mut self, _cx: &mut Context<'_, Messages>, _reason: &CloseReason) {
        self.0.closed.fetch_add(1, Ordering::SeqCst);
    }
}

/// An address of this machine, different for each number below 16 million.
fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number as u32)
}

/// Sends from each address that can be bound, and checks the echoes. Returns those addresses.
fn echoes(server: SocketAddr, addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.into_iter().enumerate().peekable();
    let mut answered = Vec::new();
    while addresses.peek().is_some() {
        let mut group = Vec::new();
        for (number, address) in addresses.by_ref().take(GROUP) {
            // If the socket was closed in between, its port may be taken by now.
            if let Ok(socket) = UdpSocket::bind(address) {
                socket.connect(server).unwrap();
                socket.set_read_timeout(Some(secs(20))).unwrap();
                socket.send(&number.to_be_bytes()).unwrap();
                group.push((number, socket));
            }
        }
        for (number, socket) in group {
            let mut echo = [0; 9];
            assert_eq!(socket.recv(&mut echo).unwrap(), 8);
            assert_eq!(echo[..8], number.to_be_bytes());
            answered.push(socket.local_addr().unwrap());
        }
    }
    answered
}

fn ten_thousand_have_a_session_each<R: TestRuntime>() {
    const PEERS: usize = 10_000;
    if UdpSocket::bind((address(0), 0)).is_err() {
        return eprintln!("not tested: the loopback interface has one address");
    }
    R::block_on(async {
        let counts = Arc::<Counts>::default();
        let counted = counts.clone();
        let limits = PeerLimits::new().max_peers(PEERS).new_per_second(1_000_000);
        let listener = move |_| Some(Echo(counted.clone()));
        let server = server::<R>().udp_peers("127.0.0.1:0", limits, Raw, listener).await.unwrap();
        let to = server.local_addr();
        let addresses = (0..PEERS).map(|number| SocketAddr::from((address(number), 0)));
        let known = blocking(move || echoes(to, addresses)).await;
        assert_eq!((known.len(), server.sessions()), (PEERS, PEERS));
        let again = blocking(move || echoes(to, known)).await;
        assert!(again.len() > PEERS / 2, "{} could be asked again", again.len());
        let opened = counts.opened.load(Ordering::SeqCst);
        assert_eq!((opened, counts.closed.load(Ordering::SeqCst)), (PEERS, 0), "all peers are known");

        // One more peer takes the place of a peer that was asked only once, or of the first one.
        blocking(move || echoes(to, [SocketAddr::from((address(PEERS), 0))])).await;
        assert_eq!((server.sessions(), counts.closed.load(Ordering::SeqCst)), (PEERS, 1));
        assert_eq!(server.shutdown(secs(20)).await.aborted, 0);
        assert_eq!(counts.closed.load(Ordering::SeqCst), PEERS + 1);
    });
}
