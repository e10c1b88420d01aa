//! UDP servers on a network that is slower than they are, so that the socket's send buffer is full. The
//! network is the slowed-down loopback interface of the test's own network namespace. If that is impossible,
//! nothing is tested.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use getty_core::codec::Raw;
use getty_core::datagram::{Dropped, PeerLimits};
use getty_core::{Config, Opened, SendError};
use getty_driver::{Context, Listener, Refuse, Server, UdpOptions};
use socket2::SockRef;

use crate::driver_common::runtimes::{TestRuntime, blocking, server};
use crate::driver_common::*;
use crate::on_every_runtime;

on_every_runtime!(
    a_burst_waits_for_the_socket_and_arrives,
    a_burst_to_a_peer_with_a_session_waits_for_the_socket_and_arrives,
    answers_to_many_questions_arrive,
);

/// 20 Mbit/s, with a queue that holds everything that is sent.
const SETUP: &str = "ip link set lo up && tc qdisc add dev lo root tbf rate 20mbit burst 5kb limit 8mb";

/// Whether the network is slow. If not, runs the test again in a process with a slow one.
fn is_slow() -> bool {
    let is_slow = namespace::is_inside(SETUP);
    if is_slow {
        let probe = UdpOptions::new().send_buffer(1).bind(([127, 0, 0, 1], 0).into()).unwrap();
        let mut sent = (0..1000).map(|_| probe.send_to(&[0; SIZE], probe.local_addr().unwrap()));
        assert!(sent.any(|sent| sent.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)));
    }
    is_slow
}

/// Size of a reply in bytes.
const SIZE: usize = 1000;

/// Sends the number of replies that the first message asks for, as fast as they are accepted.
struct Burst {
    /// Whether all peers share one session.
    shared: bool,
    /// The peer to send to, if they do.
    peer: Option<SocketAddr>,
    sent: u32,
    left: u32,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    blocked: AtomicUsize,
    writable: AtomicUsize,
    dropped: AtomicUsize,
}

impl Burst {
    fn new(counts: &Arc<Counts>, shared: bool) -> Self {
        Burst { shared, peer: None, sent: 0, left: 0, counts: counts.clone() }
    }

    fn go_on(&mut self, cx: &mut Context<'_, Messages>) {
        while self.left > 0 {
            let answer = Bytes::from(answer(self.sent));
            let taken = match self.peer {
                Some(peer) => cx.send_to(peer, answer),
                None => cx.send(answer),
            };
            match taken {
                Ok(_) => (self.sent, self.left) = (self.sent + 1, self.left - 1),
                Err(SendError::Blocked(_)) => {
                    self.counts.blocked.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

impl Listener<Messages> for Burst {
    fn on_open(&mut self, cx: &mut Context<'_, Messages>, _opened: &Opened) -> Result<(), Refuse> {
        cx.validate_peer();
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_, Messages>, message: Bytes) {
        self.peer = cx.peer_addr().filter(|_| self.shared);
        self.left += u32::from_be_bytes(message[..].try_into().unwrap());
        self.go_on(cx);
    }

    fn on_writable(&mut self, cx: &mut Context<'_, Messages>) {
        self.counts.writable.fetch_add(1, Ordering::SeqCst);
        self.go_on(cx);
    }

    fn on_dropped(&mut self, _cx: &mut Context<'_, Messages>, dropped: &Dropped) {
        self.counts.dropped.fetch_add(dropped.counts.total() as usize, Ordering::SeqCst);
    }
}

fn answer(number: u32) -> Vec<u8> {
    let mut answer = number.to_be_bytes().to_vec();
    answer.resize(SIZE, number as u8);
    answer
}

/// Options for the smallest send buffer that the system allows, and a queue smaller than a burst.
fn small() -> (UdpOptions, Arc<Config>) {
    let config = config(|c| c.watermarks(4 * 1024, 8 * 1024).max_queued(16 * 1024));
    (UdpOptions::new().send_buffer(1), config)
}

/// A client whose receive buffer holds everything.
fn client<R: TestRuntime>(server: &Server<R>) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.local_addr()).unwrap();
    socket.set_read_timeout(Some(secs(20))).unwrap();
    SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
    socket
}

/// Asks for a burst, and checks that it comes whole and in order.
async fn receive_burst(client: UdpSocket, counts: &Counts) {
    const ANSWERS: u32 = 500;
    blocking(move || {
        client.send(&ANSWERS.to_be_bytes()).unwrap();
        let mut received = [0; SIZE + 1];
        for number in 0..ANSWERS {
            assert_eq!(client.recv(&mut received).unwrap(), SIZE, "answer {number}");
            assert_eq!(received[..SIZE], answer(number));
        }
    })
    .await;
    let [blocked, writable, dropped] =
        [&counts.blocked, &counts.writable, &counts.dropped].map(|count| count.load(Ordering::SeqCst));
    assert!(blocked >= 10, "the queue was full {blocked} times");
    assert_eq!((writable, dropped), (blocked, 0), "each refusal is followed by on_writable");
}

fn a_burst_waits_for_the_socket_and_arrives<R: TestRuntime>() {
    if !is_slow() {
        return;
    }
    R::block_on(async {
        let counts = Arc::<Counts>::default();
        let (options, config) = small();
        let builder = server::<R>().udp_options(options).config(config);
        let server = builder.udp("127.0.0.1:0", Raw, Burst::new(&counts, true)).await.unwrap();
        receive_burst(client(&server), &counts).await;
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
    });
}

fn a_burst_to_a_peer_with_a_session_waits_for_the_socket_and_arrives<R: TestRuntime>() {
    if !is_slow() {
        return;
    }
    R::block_on(async {
        let counts = Arc::<Counts>::default();
        let (options, config) = small();
        let (made, told) = (counts.clone(), counts.clone());
        let builder = server::<R>().udp_options(options).config(config).on_dropped(move |dropped| {
            told.dropped.fetch_add(dropped.counts.total() as usize, Ordering::SeqCst);
        });
        let listener = move |_| Some(Burst::new(&made, false));
        let server = builder.udp_peers("127.0.0.1:0", PeerLimits::new(), Raw, listener).await.unwrap();
        receive_burst(client(&server), &counts).await;
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
    });
}

/// A listener that sends a reply of similar size to each message is never refused: messages without a reply
/// yet wait in the system's receive buffer.
fn answers_to_many_questions_arrive<R: TestRuntime>() {
    if !is_slow() {
        return;
    }
    R::block_on(async {
        let (options, config) = small();
        let (echo, log) = recorder::Recorder::echo();
        let server =
            server::<R>().udp_options(options).config(config).udp("127.0.0.1:0", Raw, echo).await.unwrap();
        let client = client(&server);
        blocking(move || {
            for number in 0..100 {
                client.send(&answer(number)).unwrap();
            }
            let mut received = [0; SIZE + 1];
            for number in 0..100 {
                assert_eq!(client.recv(&mut received).unwrap(), SIZE, "answer {number}");
                assert_eq!(received[..SIZE], answer(number));
            }
        })
        .await;
        assert_eq!((log.count("on_dropped"), log.count("on_send_error")), (0, 0));
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
    });
}
