//! [`Fake`]: a runtime with one thread, whose clock moves only on request.
//!
//! All its state is per thread, and so per test. Its sockets are [`MemIo`]s that the test supplies.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use getty_driver::{Accept, Runtime, Spawn, TcpOptions, Timer};

use super::packets::{MemPackets, PacketWire, packets};
use super::wire::MemIo;

pub enum Fake {}

thread_local! {
    static NOW: Cell<Instant> = Cell::new(Instant::now());
    static TIMERS: RefCell<Vec<Option<Alarm>>> = const { RefCell::new(Vec::new()) };
    static YIELDS: Cell<usize> = const { Cell::new(0) };
    static LOOKS: Cell<usize> = const { Cell::new(0) };
    static AT_LOOK: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { made: 0, reset: 0 }) };
    static ACCEPTS: RefCell<VecDeque<io::Result<MemIo>>> = const { RefCell::new(VecDeque::new()) };
    static ACCEPT_WAKER: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static ACCEPT_CALLS: Cell<usize> = const { Cell::new(0) };
    static CONNECTS: RefCell<VecDeque<Connects>> = const { RefCell::new(VecDeque::new()) };
    static CONNECT_WAKERS: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
    static ATTEMPTS: RefCell<Vec<(SocketAddr, Instant)>> = const { RefCell::new(Vec::new()) };
    static UDP_SOCKETS: RefCell<VecDeque<PacketWire>> = const { RefCell::new(VecDeque::new()) };
    static TASKS: RefCell<Vec<Option<Spawned>>> = const { RefCell::new(Vec::new()) };
    static READY: Arc<Mutex<VecDeque<usize>>> = Arc::default();
}

/// The result of the next attempt to connect to this address, or to any.
struct Connects {
    to: Option<SocketAddr>,
    result: io::Result<MemIo>,
}

struct Spawned {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

/// Numbers of timers made and of resets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub made: usize,
    pub reset: usize,
}

struct Alarm {
    at: Instant,
    waker: Option<Waker>,
}

pub fn timer_counts() -> Counts {
    COUNTS.get()
}

/// Number of times that a task has yielded to others.
pub fn yields() -> usize {
    YIELDS.get()
}

/// Lets the runtime look at its sockets, once nothing else is ready: wakes the tasks that yielded, and those
/// that wait for what it finds. Returns whether there were any.
pub fn look() -> bool {
    LOOKS.set(LOOKS.get() + 1);
    let wakers = AT_LOOK.take();
    let any = !wakers.is_empty();
    wakers.into_iter().for_each(Waker::wake);
    any
}

/// Number of times the runtime has looked at its sockets.
pub fn looks() -> usize {
    LOOKS.get()
}

/// Wakes the task of `cx` when the runtime looks at its sockets.
pub fn wake_at_look(cx: &Context<'_>) {
    AT_LOOK.with_borrow_mut(|wakers| wakers.push(cx.waker().clone()));
}

/// Moves the clock forward. Timers that are due fire.
pub fn advance(by: Duration) {
    jump(NOW.get() + by);
}

/// Sets the clock, which may go back. Timers that are due fire.
pub fn jump(to: Instant) {
    NOW.set(to);
    let due: Vec<Waker> = TIMERS.with_borrow_mut(|timers| {
        timers
            .iter_mut()
            .flatten()
            .filter(|alarm| alarm.at <= to)
            .filter_map(|alarm| alarm.waker.take())
            .collect()
    });
    due.into_iter().for_each(Waker::wake);
}

/// Sets the clock without firing timers, as when the runtime has not looked at them yet.
pub fn jump_unnoticed(to: Instant) {
    NOW.set(to);
}

fn next_alarm() -> Option<Instant> {
    TIMERS.with_borrow(|timers| timers.iter().flatten().filter(|a| a.waker.is_some()).map(|a| a.at).min())
}

/// Gives the listening socket a connection or an error to accept.
pub fn incoming(result: io::Result<MemIo>) {
    ACCEPTS.with_borrow_mut(|accepts| accepts.push_back(result));
    ACCEPT_WAKER.take().into_iter().for_each(Waker::wake);
}

/// Number of times that a listening socket was polled for a connection.
pub fn accept_calls() -> usize {
    ACCEPT_CALLS.get()
}

/// Sets the result of the next attempt to connect. Without one, attempts wait.
pub fn connects(result: io::Result<MemIo>) {
    push_connects(Connects { to: None, result });
}

/// Sets the result of the next attempt to connect to `address`.
pub fn connects_to(address: &str, result: io::Result<MemIo>) {
    push_connects(Connects { to: Some(address.parse().unwrap()), result });
}

fn push_connects(connects: Connects) {
    CONNECTS.with_borrow_mut(|all| all.push_back(connects));
    CONNECT_WAKERS.take().into_iter().for_each(Waker::wake);
}

/// Returns the attempts to connect since the last call: address and time.
pub fn take_attempts() -> Vec<(SocketAddr, Instant)> {
    ATTEMPTS.take()
}

/// The wire of the next UDP socket, in the order in which they were made.
#[track_caller]
pub fn udp_wire() -> PacketWire {
    UDP_SOCKETS.with_borrow_mut(VecDeque::pop_front).expect("a UDP socket was made")
}

/// Number of tasks.
pub fn tasks() -> usize {
    TASKS.with_borrow(|tasks| tasks.iter().flatten().count())
}

/// Drops all tasks, as a runtime does at its end.
pub fn drop_tasks() {
    drop(TASKS.take());
}

struct TaskWaker(usize, Arc<Mutex<VecDeque<usize>>>);

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push_back(self.0);
    }
}

fn waker(task: usize) -> Waker {
    Waker::from(Arc::new(TaskWaker(task, READY.with(Arc::clone))))
}

/// Polls tasks until none has anything left to do.
#[track_caller]
pub fn run() {
    for _ in 0..100_000 {
        let Some(id) = READY.with(|ready| ready.lock().unwrap().pop_front()) else {
            if look() {
                continue;
            }
            return;
        };
        let task = TASKS.with_borrow_mut(|tasks| tasks.get_mut(id).and_then(Option::take));
        if let Some(mut task) = task
            && task.future.as_mut().poll(&mut Context::from_waker(&task.waker)).is_pending()
        {
            TASKS.with_borrow_mut(|tasks| tasks[id] = Some(task));
        }
    }
    panic!("tasks are busy without end");
}

/// Runs `future` and the tasks. Whenever none can go on, the clock moves to the next timer.
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let flag = Arc::new(super::task::Counter::default());
    let waker = Waker::from(flag.clone());
    let mut seen = usize::MAX;
    loop {
        if flag.wakes() != seen {
            seen = flag.wakes();
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
        }
        run();
        if flag.wakes() == seen {
            jump(next_alarm().expect("everything waits, but no timer is set").max(NOW.get()));
        }
    }
}

/// Waits on the fake clock.
pub async fn sleep(time: Duration) {
    let mut timer = Fake::timer(NOW.get() + time);
    poll_fn(|cx| timer.poll(cx)).await;
}

impl Runtime for Fake {
    type Timer = FakeTimer;
    type TcpStream = MemIo;
    type TcpListener = FakeListener;
    type UdpSocket = MemPackets;
    type Spawner = FakeSpawner;

    fn now() -> Instant {
        NOW.get()
    }

    fn timer(at: Instant) -> FakeTimer {
        COUNTS.set(Counts { made: COUNTS.get().made + 1, ..COUNTS.get() });
        TIMERS.with_borrow_mut(|timers| {
            timers.push(Some(Alarm { at, waker: None }));
            FakeTimer(timers.len() - 1)
        })
    }

    fn yield_now(cx: &mut Context<'_>) {
        YIELDS.set(YIELDS.get() + 1);
        wake_at_look(cx);
    }

    /// Takes a list of addresses as a name.
    async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
        let addresses = address.split(',').map(|address| address.parse());
        addresses.collect::<Result<_, _>>().map_err(|_| io::ErrorKind::NotFound.into())
    }

    fn tcp_listener(listener: TcpListener) -> io::Result<FakeListener> {
        Ok(FakeListener { _socket: listener })
    }

    async fn tcp_connect(address: SocketAddr) -> io::Result<MemIo> {
        ATTEMPTS.with_borrow_mut(|attempts| attempts.push((address, NOW.get())));
        poll_fn(|cx| {
            let result = CONNECTS.with_borrow_mut(|all| {
                let place = all.iter().position(|connects| connects.to.is_none_or(|to| to == address));
                place.and_then(|place| all.remove(place)).map(|connects| connects.result)
            });
            if let Some(result) = result {
                return Poll::Ready(result);
            }
            CONNECT_WAKERS.with_borrow_mut(|wakers| wakers.push(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }

    fn apply(_stream: &MemIo, _options: &TcpOptions) -> io::Result<()> {
        Ok(())
    }

    /// Uses the socket only for its addresses. The test controls its traffic: see [`packets`].
    fn udp_socket(socket: UdpSocket) -> io::Result<MemPackets> {
        let (io, wire) = packets(socket.local_addr().ok(), socket.peer_addr().ok());
        UDP_SOCKETS.with_borrow_mut(|sockets| sockets.push_back(wire));
        Ok(io)
    }
}

pub struct FakeTimer(usize);

impl Timer for FakeTimer {
    fn reset(&mut self, at: Instant) {
        COUNTS.set(Counts { reset: COUNTS.get().reset + 1, ..COUNTS.get() });
        TIMERS.with_borrow_mut(|timers| timers[self.0] = Some(Alarm { at, waker: None }));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        TIMERS.with_borrow_mut(|timers| {
            let alarm = timers[self.0].as_mut().expect("the timer exists");
            if alarm.at <= NOW.get() {
                return Poll::Ready(());
            }
            alarm.waker = Some(cx.waker().clone());
            Poll::Pending
        })
    }
}

impl Drop for FakeTimer {
    fn drop(&mut self) {
        // The thread may be ending.
        let _ = TIMERS.try_with(|timers| timers.borrow_mut()[self.0] = None);
    }
}

/// Spawns on the thread's own executor: [`run`] or [`block_on`].
#[derive(Debug, Clone, Copy, Default)]
pub struct FakeSpawner;

impl<F: Future + 'static> Spawn<F> for FakeSpawner {
    fn spawn(&self, future: F) {
        let id = TASKS.with_borrow_mut(|tasks| {
            let id = tasks.len();
            tasks.push(Some(Spawned { future: Box::pin(async { drop(future.await) }), waker: waker(id) }));
            id
        });
        READY.with(|ready| ready.lock().unwrap().push_back(id));
    }
}

/// A socket that is bound to a real port, so that tests can see whether it is open. Its connections are not
/// real.
#[derive(Debug)]
pub struct FakeListener {
    _socket: TcpListener,
}

impl Accept for FakeListener {
    type Stream = MemIo;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<MemIo>> {
        ACCEPT_CALLS.set(ACCEPT_CALLS.get() + 1);
        match ACCEPTS.with_borrow_mut(VecDeque::pop_front) {
            Some(result) => Poll::Ready(result),
            None => {
                ACCEPT_WAKER.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}
