//! Hostile floods at an RPC server over real sockets, as raw bytes. Memory stays flat, and another client is
//! served meanwhile.
//!
//! How long that one waits is measured by the example `fairness`.

mod driver_common;

use std::cell::Cell;
use std::future::IntoFuture;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task;
use std::thread;
use std::time::{Duration, Instant};

use driver_common::runtimes::{TestRuntime, blocking, client, server, until};
use futures::future::{Either, select};
use getty_core::rpc::Frame;
use getty_core::{CloseReason, Config, Items, Opened, SendError};
use getty_driver::rpc::{self, Raw, Services, Status};
use getty_driver::{Context, Listener, Refuse};
use socket2::SockRef;
use testkit::alloc::{Counting, held_by_all_threads};
use testkit::rpc_bytes::{Heard, broken_request, cancel, opening, read_preface, request};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

on_every_runtime!(calls_that_are_cancelled_at_once, broken_requests_of_a_peer_that_does_not_read);

/// Memory is measured, so only one test may run at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The number of calls, or of broken requests, in a flood.
const FLOOD: u32 = 100_000;

/// Floods, one after the other, each on a connection of its own.
const FLOODS: usize = 4;

/// Limit of the memory that is held at any time, with the client's. The bytes of the flood do not count.
const BOUND: i64 = 1 << 20;

/// Limit of the frames that a session takes in one turn, after which the others have theirs.
const TURN: usize = 128;

thread_local! {
    /// Handlers that have begun in this turn.
    static BEGUN: Cell<usize> = const { Cell::new(0) };
}

/// What is seen of all sessions of the server.
#[derive(Default)]
struct Watch {
    /// Handlers that have not ended.
    running: AtomicUsize,
    begun: AtomicUsize,
    /// Handlers that began in one turn, and frames that came in one, at most.
    most_begun: AtomicUsize,
    most_messages: AtomicUsize,
    most_memory: AtomicI64,
}

/// A listener of the library, watched.
struct Watched<L> {
    inner: L,
    watch: Arc<Watch>,
    /// Frames since the last turn.
    messages: usize,
}

type Session<'a> = Context<'a, Items<Frame>>;

impl<L: Listener<Items<Frame>>> Listener<Items<Frame>> for Watched<L> {
    fn on_open(&mut self, cx: &mut Session<'_>, opened: &Opened) -> Result<(), Refuse> {
        self.inner.on_open(cx, opened)
    }

    fn on_message(&mut self, cx: &mut Session<'_>, frame: Frame) {
        self.messages += 1;
        self.inner.on_message(cx, frame);
    }

    fn on_send_error(&mut self, cx: &mut Session<'_>, error: SendError<Frame>) {
        self.inner.on_send_error(cx, error);
    }

    fn on_turn(&mut self, cx: &mut Session<'_>, task: &mut task::Context<'_>) -> Option<Instant> {
        let next = self.inner.on_turn(cx, task);
        self.watch.begun.fetch_add(BEGUN.get(), Ordering::SeqCst);
        self.watch.most_begun.fetch_max(BEGUN.get(), Ordering::SeqCst);
        self.watch.most_messages.fetch_max(std::mem::take(&mut self.messages), Ordering::SeqCst);
        BEGUN.set(0);
        self.watch.most_memory.fetch_max(held_by_all_threads(), Ordering::SeqCst);
        next
    }

    fn on_shutdown(&mut self, cx: &mut Session<'_>) {
        self.inner.on_shutdown(cx);
    }

    fn on_close(&mut self, cx: &mut Session<'_>, reason: &CloseReason) {
        self.inner.on_close(cx, reason);
    }
}

/// Counts a handler.
struct Running(Arc<Watch>);

impl Running {
    fn begin(watch: &Arc<Watch>) -> Self {
        BEGUN.set(BEGUN.get() + 1);
        watch.running.fetch_add(1, Ordering::SeqCst);
        Running(watch.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Serves, and calls without a pause until `flood` has ended. Returns what was watched, and what the flood
/// returned.
async fn beside<R: TestRuntime, T: Send + 'static>(
    flood: impl FnOnce(SocketAddr) -> T + Send + 'static,
) -> (Arc<Watch>, T) {
    let watch = Arc::new(Watch::default());
    let counted = watch.clone();
    let services = Services::new()
        .method("t.T/Echo", Raw, |_, text: String| async move { Ok::<_, Status>(text) })
        .method("t.T/Wait", Raw, move |_, _: String| {
            let running = Running::begin(&counted);
            async move {
                let _running = running;
                std::future::pending::<Result<(), Status>>().await
            }
        });
    let watched = watch.clone();
    let listener = move || Watched { inner: services.listener(), watch: watched.clone(), messages: 0 };
    // The peer that floods does not end its side: so long the server waits for that.
    let config = Config::builder().close_timeout(Duration::from_millis(200)).build().unwrap();
    let server = server::<R>().config(config).tcp("127.0.0.1:0", rpc::frames, listener).await.unwrap();
    let address = server.local_addr();
    let (peer, caller) = rpc::peer(Services::new());
    client::<R>().tcp(&address.to_string(), rpc::frames(), peer).await.unwrap();
    let mut flood = pin!(blocking(move || flood(address)));
    let result = loop {
        let call = caller.call::<_, _, String>("t.T/Echo", Raw, "innocent").into_future();
        match select(flood.as_mut(), call).await {
            Either::Left((result, call)) => {
                assert_eq!(call.await.unwrap(), "innocent");
                break result;
            }
            Either::Right((answer, _)) => assert_eq!(answer.unwrap(), "innocent"),
        }
    };
    until::<R>("the flood's sessions have ended", || server.sessions() == 1).await;
    until::<R>("its handlers too", || watch.running.load(Ordering::SeqCst) == 0).await;
    (watch, result)
}

impl Watch {
    fn check(&self, before: i64) {
        let memory = self.most_memory.load(Ordering::SeqCst) - before;
        println!("at most {memory} bytes were held; {} handlers began", self.begun.load(Ordering::SeqCst));
        assert!(memory < BOUND, "{memory} bytes");
        let messages = self.most_messages.load(Ordering::SeqCst);
        assert!(messages <= TURN, "{messages} frames in one turn");
        let begun = self.most_begun.load(Ordering::SeqCst);
        assert!(begun <= 1, "{begun} handlers began in one turn");
    }
}

/// The call `number` of a flood. Its id is free again, or the connection has ended.
fn id(number: u32) -> u32 {
    3 + number % 60_000 * 2
}

/// Floods while everything is read that comes back, which says why the connection ends.
fn calls_that_are_cancelled_at_once<R: TestRuntime>() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let flood: Vec<u8> =
        (0..FLOOD).flat_map(|n| [request(id(n), "t.T/Wait", b"x"), cancel(id(n))]).flatten().collect();
    R::block_on(async {
        let before = held_by_all_threads();
        let floods = move |address| {
            for _ in 0..FLOODS {
                let mut stream = TcpStream::connect(address).unwrap();
                let mut reading = stream.try_clone().unwrap();
                let reader = thread::spawn(move || {
                    read_preface(&mut reading).unwrap();
                    std::iter::from_fn(|| Heard::read(&mut reading).ok()).last().unwrap()
                });
                stream.write_all(&opening()).unwrap();
                let _ = stream.write_all(&flood); // it may not all be taken
                let last = reader.join().unwrap();
                assert!(last.says_calm_down(), "{last:?}");
            }
        };
        let (watch, ()) = beside::<R, _>(floods).await;
        watch.check(before);
    });
}

/// Floods while nothing is read, until the connection has ended.
fn broken_requests_of_a_peer_that_does_not_read<R: TestRuntime>() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let flood: Vec<u8> = (0..FLOOD).flat_map(|n| broken_request(id(n))).collect();
    R::block_on(async {
        let before = held_by_all_threads();
        let floods = move |address| {
            for _ in 0..FLOODS {
                let mut stream = TcpStream::connect(address).unwrap();
                SockRef::from(&stream).set_recv_buffer_size(4096).unwrap();
                stream.write_all(&opening()).unwrap();
                while stream.write_all(&flood).is_ok() {}
            }
        };
        let (watch, ()) = beside::<R, _>(floods).await;
        watch.check(before);
    });
}
