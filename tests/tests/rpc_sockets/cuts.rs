//! Calls in both directions, of all shapes, over connections that are cut at random: each ends exactly once,
//! and what is said about its execution is true.

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use std::{io, thread};

use futures::future::{join, join_all};
use getty_driver::rpc::{self, Call, Caller, Code, Executed, Raw, Receiver, Sender, Services, Status};
use socket2::SockRef;
use testkit::Rng;

use crate::basics::{Guard, Running};
use crate::driver_common::runtimes::{TestRuntime, client, in_time, server, until};
use crate::erased::{erased, erased_each};
use crate::faults::yield_once;
use crate::on_every_runtime;

on_every_runtime!(each_of_10_000_calls_is_accounted_for);

/// Forwards connections, and cuts each one in the middle of what it says.
pub(crate) struct Cutter {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// The place and the manner of a cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// The bytes that go in one direction before the connection is cut.
    pub(crate) after: usize,
    /// That direction: what the side says that connected, or the other one.
    pub(crate) of_client: bool,
    /// Both sides see a reset, instead of the end of the stream.
    pub(crate) resets: bool,
}

struct Shared {
    /// For the connections that are accepted from now on.
    cut: Mutex<Cut>,
    links: Mutex<Vec<Weak<Link>>>,
    is_over: AtomicBool,
}

/// A connection that was accepted, and the one that was made for it.
struct Link {
    ends: [TcpStream; 2],
    resets: bool,
}

impl Cutter {
    pub(crate) fn to(server: SocketAddr, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (links, is_over) = (Mutex::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { cut: Mutex::new(cut), links, is_over });
        let accepting = shared.clone();
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if accepting.is_over.load(Ordering::SeqCst) {
                    return;
                }
                accepting.forward([client, TcpStream::connect(server).unwrap()]);
            }
        });
        Cutter { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what happens to the connections that come from now on.
    fn set(&self, cut: Cut) {
        *self.shared.cut.lock().unwrap() = cut;
    }

    /// Cuts all connections now.
    fn cut(&self) {
        let links = std::mem::take(&mut *self.shared.links.lock().unwrap());
        links.iter().filter_map(Weak::upgrade).for_each(|link| link.cut());
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // wakes the accepting thread
    }
}

impl Shared {
    fn forward(&self, ends: [TcpStream; 2]) {
        let cut = *self.cut.lock().unwrap();
        if cut.resets {
            ends.iter().for_each(|end| SockRef::from(end).set_linger(Some(Duration::ZERO)).unwrap());
        }
        ends.iter().for_each(|end| end.set_nodelay(true).unwrap());
        let link = Arc::new(Link { ends, resets: cut.resets });
        self.links.lock().unwrap().push(Arc::downgrade(&link));
        for from in [0, 1] {
            let link = link.clone();
            let left = if (from == 0) == cut.of_client { cut.after } else { usize::MAX };
            thread::spawn(move || link.forward(from, left));
        }
    }
}

impl Link {
    /// Forwards what the end `from` says, at most `left` bytes, and cuts the connection.
    fn forward(&self, from: usize, mut left: usize) {
        let (mut from, mut to) = (&self.ends[from], &self.ends[1 - from]);
        let mut bytes = [0; 1500];
        while let Ok(n @ 1..) = io::Read::read(&mut from, &mut bytes) {
            let n = n.min(left);
            left -= n;
            if io::Write::write_all(&mut to, &bytes[..n]).is_err() || left == 0 {
                break;
            }
        }
        self.cut();
    }

    /// Ends both directions. A reset is sent once both threads have let the sockets go.
    fn cut(&self) {
        let how = if self.resets { Shutdown::Read } else { Shutdown::Both };
        self.ends.iter().for_each(|end| drop(end.shutdown(how)));
    }
}

/// What the handlers of both sides have seen, by the number of the call.
#[derive(Clone, Default)]
struct Ledger {
    seen: Arc<Mutex<HashMap<u32, usize>>>,
    running: Running,
}

impl Ledger {
    /// Notes that a handler has begun with a call. Every second one goes on in a later turn, and every 13th
    /// fails.
    fn begin(&self, call: &Call) -> impl Future<Output = Result<Guard, Status>> + use<> {
        let number = call.metadata().get("number").unwrap().try_into().map(u32::from_le_bytes).unwrap();
        *self.seen.lock().unwrap().entry(number).or_default() += 1;
        let guard = self.running.enter();
        async move {
            if number.is_multiple_of(2) {
                yield_once().await;
            }
            if fails(number) { Err(Status::new(Code::Aborted, "every 13th fails")) } else { Ok(guard) }
        }
    }
}

fn fails(number: u32) -> bool {
    number.is_multiple_of(13)
}

/// Items in the stream of a handler.
const REPEATED: usize = 4;

/// Methods of all shapes that keep a ledger. A function could not say that their futures are `Send`.
macro_rules! services {
    ($ledger:expr) => {{
        let ledger: [Ledger; 4] = std::array::from_fn(|_| $ledger.clone());
        let [echo, repeat, count, talk] = ledger;
        Services::new()
            .method("t.T/Echo", Raw, move |call: Call, text: String| {
                let begin = echo.begin(&call);
                async move {
                    let _guard = begin.await?;
                    Ok::<_, Status>(text)
                }
            })
            .server_streaming("t.T/Repeat", Raw, move |call: Call, text: String, mut out: Sender<String>| {
                let begin = repeat.begin(&call);
                async move {
                    let _guard = begin.await?;
                    for _ in 0..REPEATED {
                        out.send(text.clone()).await?;
                    }
                    Ok::<_, Status>(())
                }
            })
            .client_streaming("t.T/Count", Raw, move |call: Call, mut items: Receiver<String>| {
                let begin = count.begin(&call);
                async move {
                    let _guard = begin.await?;
                    let mut bytes = 0;
                    while let Some(item) = items.recv().await? {
                        bytes += item.len();
                    }
                    Ok::<_, Status>(bytes.to_string())
                }
            })
            .bidi_streaming(
                "t.T/Talk",
                Raw,
                move |call: Call, mut items: Receiver<String>, mut out: Sender<String>| {
                    let begin = talk.begin(&call);
                    async move {
                        let _guard = begin.await?;
                        while let Some(item) = items.recv().await? {
                            out.send(item).await?;
                        }
                        Ok::<_, Status>(())
                    }
                },
            )
    }};
}

/// The end of a call.
#[derive(Debug)]
enum End {
    /// It was answered, and the answer was right.
    Answered,
    Failed(Status),
    /// Its caller did not wait.
    GivenUp,
}

/// The number of shapes of [`call`].
const SHAPES: u32 = 6;

/// Makes the call `number`, of a shape that depends on it, with values of `size` bytes.
async fn call(caller: Caller, number: u32, size: usize) -> End {
    let text = "x".repeat(size);
    let tag = number.to_le_bytes();
    let result = match number % SHAPES {
        0 => {
            let call = caller.call::<_, _, String>("t.T/Echo", Raw, &text).metadata("number", tag);
            call.await.map(|answer| assert_eq!(answer, text))
        }
        1 => caller.one_way("t.T/Echo", Raw, &text).metadata("number", tag).await,
        2 => {
            let call = caller.server_streaming("t.T/Repeat", Raw, &text).metadata("number", tag);
            match call.await {
                Ok(items) => take(items, REPEATED, &text).await,
                Err(status) => Err(status),
            }
        }
        3 => match caller.client_streaming::<_, _, String>("t.T/Count", Raw).metadata("number", tag).await {
            Ok((mut sender, answer)) => {
                for _ in 0..REPEATED {
                    let _ = sender.send(text.clone()).await;
                }
                drop(sender);
                answer.await.map(|answer| assert_eq!(answer, (REPEATED * size).to_string()))
            }
            Err(status) => Err(status),
        },
        4 => match caller.bidi_streaming("t.T/Talk", Raw).metadata("number", tag).await {
            Ok((mut sender, items)) => {
                let send = async {
                    for _ in 0..REPEATED {
                        let _ = sender.send(text.clone()).await;
                    }
                    drop(sender);
                };
                join(send, take(items, REPEATED, &text)).await.1
            }
            Err(status) => Err(status),
        },
        _ => {
            let call = caller.call::<_, _, String>("t.T/Echo", Raw, &text).metadata("number", tag);
            let call = call.into_future();
            yield_once().await;
            drop(call);
            return End::GivenUp;
        }
    };
    result.map_or_else(End::Failed, |()| End::Answered)
}

/// Receives a stream of `count` items, and its end.
async fn take(mut items: Receiver<String>, count: usize, text: &str) -> Result<(), Status> {
    let mut taken = 0;
    let result = loop {
        match items.recv().await {
            Ok(Some(item)) => assert_eq!(item, text),
            Ok(None) => break Ok(()),
            Err(status) => break Err(status),
        }
        taken += 1;
    };
    assert!(taken <= count && (result.is_err() || taken == count), "{taken} items: {result:?}");
    assert_eq!(items.recv().await.unwrap(), None, "a stream ends once");
    result
}

/// Calls that both sides make.
#[derive(Clone, Default)]
struct Calls {
    next: Arc<AtomicU32>,
    /// Groups of calls that have begun, and not ended.
    open: Arc<AtomicUsize>,
    ends: Arc<Mutex<Vec<(u32, End)>>>,
}

/// The number of calls that each side makes over a connection, all at once.
const GROUP: u32 = 50;

impl Calls {
    /// Begins a group of calls.
    fn group(&self, caller: Caller) -> impl Future<Output = ()> + use<> {
        self.open.fetch_add(1, Ordering::SeqCst);
        let this = self.clone();
        async move {
            let first = this.next.fetch_add(GROUP, Ordering::SeqCst);
            let mut random = Rng::new(first.into());
            let calls = (first..first + GROUP).map(|number| {
                let most = if random.below(20) == 0 { 40_000 } else { 1500 };
                let end = call(caller.clone(), number, random.below(most));
                async move { (number, end.await) }
            });
            let ends = join_all(calls).await;
            this.ends.lock().unwrap().extend(ends);
            this.open.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Checks the end of each call against what its handler has seen, and that there was one of each kind.
    fn check(&self, seen: &HashMap<u32, usize>) {
        let mut ends = self.ends.lock().unwrap();
        ends.sort_by_key(|(number, _)| *number);
        let numbers: Vec<u32> = ends.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (0..self.next.load(Ordering::SeqCst)).collect::<Vec<_>>(), "each ends once");
        let mut kinds = HashMap::<&str, usize>::new();
        for (number, end) in &*ends {
            let count = seen.get(number).copied().unwrap_or(0);
            assert!(count <= 1, "call {number} was executed {count} times");
            let (kind, expected) = match end {
                End::Answered => {
                    assert!(!fails(*number) || number % SHAPES == 1, "call {number} has an answer");
                    ("answered", Some(1))
                }
                End::GivenUp => ("given up", None),
                End::Failed(status) => match status.executed() {
                    Executed::No => ("No", Some(0)),
                    Executed::Maybe => ("Maybe", None),
                    Executed::Yes => {
                        assert!(fails(*number) && status.code() == Code::Aborted, "call {number}: {status}");
                        ("Yes", Some(1))
                    }
                },
            };
            *kinds.entry(kind).or_default() += 1;
            if let Some(expected) = expected {
                assert_eq!(count, expected, "call {number} of shape {}: {end:?}", number % SHAPES);
            }
        }
        println!("{kinds:?}");
        assert!(kinds.len() == 5 && kinds.values().all(|&count| count > ends.len() / 200), "{kinds:?}");
    }
}

/// `GETTY_RPC_CALLS` sets the number of calls.
fn each_of_10_000_calls_is_accounted_for<R: TestRuntime>() {
    let number = std::env::var("GETTY_RPC_CALLS").map_or(10_000, |calls| calls.parse().unwrap());
    let seed = Rng::seed();
    println!("GETTY_SEED={seed}");
    let mut random = Rng::new(seed);
    let mut cut = || {
        let after = 1 + random.below(400_000);
        Cut { after, of_client: random.below(2) == 0, resets: random.below(2) == 0 }
    };
    R::block_on(async {
        let (ledger, calls) = (Ledger::default(), Calls::default());
        let theirs = calls.clone();
        let services = services!(ledger).on_connect(move |caller, _| {
            R::spawn(theirs.group(caller));
            Ok(())
        });
        let server = server::<R>()
            .tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener()))
            .await
            .unwrap();
        let cutter = Cutter::to(server.local_addr(), cut());
        while calls.next.load(Ordering::SeqCst) < number {
            cutter.set(cut());
            let (peer, caller) = rpc::peer(services!(ledger));
            let peer = erased(peer);
            client::<R>().tcp(&cutter.address().to_string(), rpc::frames(), peer).await.unwrap();
            in_time::<R, _>(calls.group(caller.clone())).await;
            cutter.cut(); // it may have been meant for later
            in_time::<R, _>(caller.closed()).await;
        }
        until::<R>("the server has lost the connections", || server.sessions() == 0).await;
        until::<R>("all calls have ended", || calls.open.load(Ordering::SeqCst) == 0).await;
        assert_eq!(ledger.running.count(), 0);
        calls.check(&ledger.seen.lock().unwrap());
    });
}
