//! [`Listener::on_turn`]: when it is called, and what it may do. Also what `on_close` knows about its
//! session.

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{self, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::channel::oneshot;
use getty_core::codec::Raw;
use getty_core::datagram::{PacketOptions, Packets, Path, PeerLimits};
use getty_core::websocket::{ServerOptions, WebSocket};
use getty_core::{Close, CloseReason, Config, Opened, SendError, Seq, Session};
use getty_driver::{Context, Driver, Listener, PacketDriver, Refuse, Runtime, Server, now};

use crate::driver_common::fake::{self, Fake, timer_counts};
use crate::driver_common::packets::{PacketWire, packets};
use crate::driver_common::recorder::Log;
use crate::driver_common::task::Task;
use crate::driver_common::wire::{Answer, MemIo, Op, Wire, wire};
use crate::driver_common::*;

type Cx<'a, 'b> = &'a mut Context<'b, Messages>;
type OnTurn = dyn FnMut(Cx, &mut task::Context<'_>) -> Option<Instant> + Send;
type OnMessage = dyn FnMut(Cx, Bytes) + Send;

/// Notes its messages and turns.
struct Turner {
    log: Log,
    on_turn: Box<OnTurn>,
    on_message: Box<OnMessage>,
}

impl Turner {
    fn new(
        log: &Log,
        on_turn: impl FnMut(Cx, &mut task::Context<'_>) -> Option<Instant> + Send + 'static,
    ) -> Self {
        Turner { log: log.clone(), on_turn: Box::new(on_turn), on_message: Box::new(|_, _| {}) }
    }

    fn message(mut self, action: impl FnMut(Cx, Bytes) + Send + 'static) -> Self {
        self.on_message = Box::new(action);
        self
    }
}

impl Listener<Messages> for Turner {
    fn on_message(&mut self, cx: Cx, message: Bytes) {
        self.log.note(format!("on_message: {}", message.escape_ascii()));
        (self.on_message)(cx, message);
    }

    fn on_turn(&mut self, cx: Cx, task: &mut task::Context<'_>) -> Option<Instant> {
        self.log.note("on_turn");
        (self.on_turn)(cx, task)
    }

    fn on_cron(&mut self, _: Cx) {
        self.log.note("on_cron");
    }

    fn on_writable(&mut self, _: Cx) {
        self.log.note("on_writable");
    }

    fn on_flushed(&mut self, _: Cx, seq: Seq) {
        self.log.note(format!("on_flushed: {seq}"));
    }

    fn on_close(&mut self, _: Cx, reason: &CloseReason) {
        self.log.note(format!("on_close: {reason}"));
    }
}

type Turning = Task<Driver<Fake, MemIo, Plain, Turner>>;

fn turning(config: Arc<Config>, listener: Turner) -> (Turning, Wire) {
    let (io, wire) = wire();
    (Task::new(Driver::new(session(config), io, listener)), wire)
}

#[test]
fn a_future_is_polled_when_it_is_woken() {
    let (log, (sender, mut answer)) = (Log::default(), oneshot::channel::<&'static str>());
    let listener = Turner::new(&log, move |cx, task| {
        if let Poll::Ready(Ok(text)) = Pin::new(&mut answer).poll(task) {
            cx.send(Bytes::from(text)).unwrap();
            answer = oneshot::channel().1; // its sender is gone, so it is never ready with a text
        }
        None
    });
    let (mut task, wire) = turning(Config::default().into(), listener);
    task.settle();
    assert_eq!(log.take(), ["on_turn"], "the turn in which it opened");
    for _ in 0..3 {
        fake::advance(secs(1000));
        assert!(!task.is_woken(), "nothing wakes it");
    }
    std::thread::spawn(|| sender.send("later").unwrap()).join().unwrap();
    assert!(task.is_woken(), "woken from another thread");
    assert!(task.poll().is_pending());
    assert_eq!(log.take(), ["on_turn"]);
    assert_eq!(wire.take_frames(), ["later"], "written in the same turn");
    assert!(!task.is_woken());
    assert_eq!(timer_counts(), fake::Counts { made: 0, reset: 0 });
}

#[test]
fn a_turn_has_one_call_after_its_last_read_and_before_its_write() {
    type Seen = Arc<Mutex<Vec<(usize, usize)>>>;
    let (log, seen) = (Log::default(), Seen::default());
    let (io, wire) = wire();
    let (calls, asked) = (seen.clone(), wire.clone());
    let listener = Turner::new(&log, move |_, _| {
        calls.lock().unwrap().push((asked.calls(Op::Read), asked.calls(Op::Write)));
        None
    });
    let listener = listener.message(|cx, message| drop(cx.send(message)));
    let session = session(config(|c| c.cron_period(secs(1))));
    let mut task: Turning = Task::new(Driver::new(session, io, listener));
    let handle = task.get_mut().handle();
    task.settle();
    log.take();
    let mut turn = |what: &str, expected: &[&str], reads: usize, writes: usize| {
        seen.lock().unwrap().clear();
        let before = (wire.calls(Op::Read), wire.calls(Op::Write));
        assert!(task.poll().is_pending());
        assert!(!task.is_woken(), "{what}");
        assert_eq!(log.take(), expected, "{what}");
        assert_eq!(*seen.lock().unwrap(), [(before.0 + reads, before.1)], "{what}: at the call");
        let after = (wire.calls(Op::Read), wire.calls(Op::Write));
        assert_eq!(after, (before.0 + reads, before.1 + writes), "{what}: after the turn");
    };
    wire.send_frame("one");
    wire.send_frame("two");
    turn("messages", &["on_message: one", "on_message: two", "on_turn"], 3, 1);
    handle.try_send(Bytes::from("posted")).unwrap();
    turn("a handle", &["on_turn"], 1, 1);
    fake::advance(secs(1));
    turn("a deadline of the session", &["on_cron", "on_turn"], 1, 0);
    turn("nothing", &["on_turn"], 1, 0);
}

#[test]
fn what_a_write_brings_is_followed_by_another_call() {
    let log = Log::default();
    let mut first = true;
    let listener = Turner::new(&log, move |cx, _| {
        if std::mem::take(&mut first) {
            cx.send(Bytes::from("one")).unwrap();
            cx.notify_flushed();
        }
        None
    });
    let (mut task, wire) = turning(Config::default().into(), listener);
    assert!(task.poll().is_pending());
    assert_eq!(log.take(), ["on_turn", "on_flushed: 1", "on_turn"]);
    assert_eq!(wire.take_frames(), ["one"]);
    assert!(!task.is_woken());
}

#[test]
fn a_listener_has_a_deadline_of_its_own_beside_the_sessions() {
    let log = Log::default();
    let mut left = 3;
    let mut at = None;
    let listener = Turner::new(&log, move |cx, _| {
        if at.is_none_or(|at| at <= cx.now()) {
            at = (left > 0).then(|| cx.now() + 400 * MS);
            left -= 1;
        }
        at
    });
    let (mut task, _wire) = turning(config(|c| c.cron_period(secs(1))), listener);
    task.settle();
    assert_eq!(log.take(), ["on_turn"]);
    let mut at = |time: Duration, expected: &[&str]| {
        fake::advance(time - MS);
        assert!(!task.is_woken(), "before {expected:?}");
        fake::advance(MS);
        assert!(task.is_woken(), "at {expected:?}");
        task.settle();
        assert_eq!(log.take(), expected);
    };
    at(400 * MS, &["on_turn"]);
    at(400 * MS, &["on_turn"]);
    at(200 * MS, &["on_cron", "on_turn"]);
    at(200 * MS, &["on_turn"]); // the third and last one
    at(800 * MS, &["on_cron", "on_turn"]);
    at(1000 * MS, &["on_cron", "on_turn"]);
}

#[test]
fn a_deadline_that_has_passed_calls_for_a_turn_at_once() {
    let log = Log::default();
    let mut left = 5;
    let listener = Turner::new(&log, move |cx, _| {
        left -= 1;
        (left > 0).then(|| cx.now() - MS)
    });
    let (mut task, _wire) = turning(Config::default().into(), listener);
    task.settle();
    assert_eq!((log.count("on_turn"), task.polls), (5, 5));
}

/// Traffic moves the deadline: the timer fires once per period, not once per message.
#[test]
fn a_deadline_that_moves_with_traffic_does_not_touch_the_timer() {
    let log = Log::default();
    let listener = Turner::new(&log, |cx, _| Some(cx.now() + secs(5)));
    let (mut task, wire) = turning(Config::default().into(), listener);
    task.settle();
    for _ in 0..1000 {
        fake::advance(20 * MS);
        wire.send_frame("hello");
        task.settle();
    }
    assert_eq!(log.count("on_message"), 1000);
    let counts = timer_counts();
    assert_eq!(counts.made, 1);
    assert!(counts.reset <= 4, "{} resets in four periods", counts.reset);
    // A deadline that is withdrawn causes one more turn.
    log.take();
    fake::advance(secs(5));
    task.settle();
    assert_eq!(log.take(), ["on_turn"]);
}

#[test]
fn a_panic_ends_the_session() {
    let log = Log::default();
    let listener = Turner::new(&log, |_, _| std::panic::resume_unwind(Box::new("on_turn")));
    let (mut task, wire) = turning(Config::default().into(), listener);
    let handle = task.get_mut().handle();
    assert!(matches!(*task.finish(), CloseReason::Panicked));
    assert_eq!(log.take(), ["on_turn"], "no callback follows");
    assert!(wire.is_dropped() && handle.is_closed());
}

#[test]
fn only_an_open_session_has_turns() {
    let log = Log::default();
    let listener = Turner::new(&log, |cx, _| {
        cx.close(Close::graceful());
        Some(cx.now())
    });
    let (mut task, wire) = turning(Config::default().into(), listener);
    task.settle();
    assert_eq!(log.take(), ["on_turn"], "its deadline is dropped once it closes");
    wire.send_frame("too late");
    task.settle();
    assert_eq!(log.take(), [""; 0]);
    wire.eof();
    assert!(task.finish().is_clean());
    assert_eq!(log.take(), ["on_close: closed by this end"]);
}

#[test]
fn a_session_that_has_ended_its_sending_side_has_turns() {
    let log = Log::default();
    let mut session = session(Arc::default());
    session.half_close(now::<Fake>()).unwrap();
    let (io, wire) = wire();
    let mut task: Turning = Task::new(Driver::new(session, io, Turner::new(&log, |_, _| None)));
    task.settle();
    wire.send_frame("the answer");
    task.settle();
    assert_eq!(log.take(), ["on_turn", "on_message: the answer", "on_turn"]);
    assert!(wire.is_shut_down());
}

/// Replies have room of their own beside other messages. What `on_turn` sends is not a reply, even if the
/// turn's budget ended with a message.
#[test]
fn what_is_sent_in_a_turn_is_no_reply() {
    let (log, results) = (Log::default(), Arc::new(Mutex::new(Vec::new())));
    let seen = results.clone();
    let listener = Turner::new(&log, move |cx, _| {
        let mut sent = 0;
        while cx.send(Bytes::from(vec![0; 100])).is_ok() {
            sent += 1;
        }
        seen.lock().unwrap().push(sent);
        None
    });
    let listener = listener.message(|cx, _| {
        cx.send(Bytes::new()).unwrap(); // a reply
    });
    let (mut task, wire) = turning(config(|c| c.watermarks(500, 1000).max_queued(1000)), listener);
    wire.room(0);
    task.settle();
    wire.send(&frame(b"").repeat(200));
    assert!(task.poll().is_pending());
    assert_eq!(log.count("on_message"), 128, "the whole budget");
    assert_eq!(*results.lock().unwrap(), [10, 0], "no more than fits without being replies");
}

/// A message that came in time counts, though the task was late and the runtime did not know of it.
#[test]
fn a_late_task_looks_at_its_stream_before_listeners_judge_their_deadlines() {
    let log = Log::default();
    let (waits, answered) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(0)));
    let (until, got) = (waits.clone(), answered.clone());
    let judge = log.clone();
    let listener = Turner::new(&log, move |cx, _| {
        let mut until = until.lock().unwrap();
        if *got.lock().unwrap() > 0 {
            *until = None;
        } else if until.is_some_and(|until| until <= cx.now()) {
            judge.note("timed out");
        }
        *until
    });
    let listener = listener.message(move |_, _| *answered.lock().unwrap() += 1);
    let (mut task, wire) = turning(Config::default().into(), listener);
    *waits.lock().unwrap() = Some(Fake::now() + secs(1));
    task.settle();
    log.take();
    wire.answer(Op::Read, Answer::Pending); // the runtime does not know yet what there is to read
    fake::jump_unnoticed(Fake::now() + secs(60));
    wire.send_frame("in time");
    task.settle();
    assert_eq!(log.take(), ["on_message: in time", "on_turn"]);
}

/// The same over a datagram socket.
#[test]
fn over_datagrams() {
    let log = Log::default();
    let (sender, mut answer) = oneshot::channel::<()>();
    let mut due = None;
    let listener = Turner::new(&log, move |cx, task| {
        if let Poll::Ready(Ok(())) = Pin::new(&mut answer).poll(task) {
            cx.send_to("192.0.2.7:7".parse().unwrap(), Bytes::from("woken")).unwrap();
            due = Some(cx.now() + secs(1));
            answer = oneshot::channel().1;
        }
        due.take_if(|due| *due <= cx.now());
        due
    });
    let (io, wire) = packets(None, None);
    let machine = Packets::new(Raw, PacketOptions::unconnected(), Arc::default(), now::<Fake>());
    let mut task = Task::new(PacketDriver::<Fake, _, _, _, _>::new(machine, io, listener));
    task.settle();
    assert_eq!(log.take(), ["on_turn"]);
    wire.receives([(path(1), b"hello".to_vec())]);
    assert!(task.poll().is_pending());
    assert_eq!(log.take(), ["on_message: hello", "on_turn"]);
    assert!(!task.is_woken());
    sender.send(()).unwrap();
    assert!(task.is_woken());
    assert!(task.poll().is_pending());
    assert_eq!(log.take(), ["on_turn"]);
    assert_eq!(wire.take_sent().len(), 1, "in the same turn");
    fake::advance(secs(1));
    assert!(task.is_woken(), "by its own deadline");
    task.settle();
    assert_eq!(log.take(), ["on_turn"]);
    fake::advance(secs(100));
    assert!(!task.is_woken());
}

fn path(number: usize) -> Path {
    let [.., a, b, c] = (number as u32).to_be_bytes();
    Path::new(SocketAddr::from(([10, a, b, c], 7)))
}

/// Records of the listeners of many peers.
#[derive(Default)]
struct Crowd {
    turns: AtomicUsize,
    messages: AtomicUsize,
    /// The wakers that listeners kept, by the address of their peer.
    wakers: Mutex<Vec<(SocketAddr, Waker)>>,
    /// Peers that had turns.
    who: Mutex<Vec<SocketAddr>>,
}

/// Does what its message says: keeps its waker, asks for a turn in a second, sends, or panics.
struct Peer {
    crowd: Arc<Crowd>,
    asked: Option<Bytes>,
    due: Option<Instant>,
}

impl Listener<Messages> for Peer {
    fn on_message(&mut self, _: Cx, message: Bytes) {
        self.crowd.messages.fetch_add(1, Ordering::Relaxed);
        self.asked = Some(message);
    }

    fn on_turn(&mut self, cx: Cx, task: &mut task::Context<'_>) -> Option<Instant> {
        self.crowd.turns.fetch_add(1, Ordering::Relaxed);
        self.crowd.who.lock().unwrap().push(cx.peer_addr().unwrap());
        match self.asked.take().as_deref() {
            Some(b"wake") => {
                let peer = cx.peer_addr().unwrap();
                self.crowd.wakers.lock().unwrap().push((peer, task.waker().clone()));
            }
            Some(b"later") => self.due = Some(cx.now() + secs(1)),
            Some(b"send") => drop(cx.send(Bytes::from("sent")).unwrap()),
            Some(b"panic") => std::panic::resume_unwind(Box::new("on_turn")),
            _ => {}
        }
        self.due.take_if(|due| *due <= cx.now());
        self.due
    }
}

struct Peers {
    server: Server<Fake>,
    wire: PacketWire,
    crowd: Arc<Crowd>,
    panics: Arc<AtomicUsize>,
}

const CROWD: usize = 10_000;

/// A server with [`CROWD`] idle peers.
fn crowd() -> Peers {
    let (crowd, panics) = (Arc::<Crowd>::default(), Arc::<AtomicUsize>::default());
    let made = crowd.clone();
    let counted = panics.clone();
    let builder = Server::<Fake>::builder().on_panic(move |_, _: &(dyn Any + Send)| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let limits = PeerLimits::new().new_per_second(1_000_000);
    let listener = move |_| Some(Peer { crowd: made.clone(), asked: None, due: None });
    let server = fake::block_on(builder.udp_peers("127.0.0.1:0", limits, Raw, listener)).unwrap();
    fake::run();
    let wire = fake::udp_wire();
    for batch in 0..CROWD / 20 {
        wire.receives((0..20).map(|n| (path(batch * 20 + n), b"hello".to_vec())));
    }
    fake::run();
    assert_eq!(server.sessions(), CROWD);
    let peers = Peers { server, wire, crowd, panics };
    assert!(peers.take_turns().len() >= CROWD);
    peers
}

impl Peers {
    /// Runs the tasks. Returns the peers that had turns.
    fn take_turns(&self) -> Vec<SocketAddr> {
        fake::run();
        std::mem::take(&mut *self.crowd.who.lock().unwrap())
    }

    /// The same after each of `numbers` has sent `text`.
    fn say(&self, numbers: impl IntoIterator<Item = usize>, text: &str) -> Vec<SocketAddr> {
        let numbers: Vec<usize> = numbers.into_iter().collect();
        for batch in numbers.chunks(20) {
            self.wire.receives(batch.iter().map(|&n| (path(n), text.as_bytes().to_vec())));
        }
        self.take_turns()
    }
}

fn address(number: usize) -> SocketAddr {
    path(number).peer
}

#[test]
fn of_many_peers_only_those_touched_woken_or_due_have_turns() {
    let peers = crowd();
    assert_eq!(peers.say([7], "hello"), [address(7)], "touched");
    // A peer that wakes itself.
    assert_eq!(peers.say([8], "wake"), [address(8)]);
    let (_, waker) = peers.crowd.wakers.lock().unwrap().pop().unwrap();
    for _ in 0..3 {
        waker.wake_by_ref();
        assert_eq!(peers.take_turns(), [address(8)], "woken");
    }
    // A peer with a deadline of its own.
    assert_eq!(peers.say([9], "later"), [address(9)]);
    fake::advance(secs(1) - MS);
    assert_eq!(peers.take_turns(), []);
    fake::advance(MS);
    assert_eq!(peers.take_turns(), [address(9)], "due");
    fake::advance(secs(100));
    assert_eq!(peers.take_turns(), []);
    assert_eq!(peers.server.sessions(), CROWD);
}

#[test]
fn what_a_peer_sends_in_its_turn_goes_out_in_that_turn() {
    let peers = crowd();
    let calls = peers.wire.recv_calls();
    assert_eq!(peers.say([3], "send"), [address(3)]);
    assert_eq!(peers.wire.take_sent(), [(Some(path(3)), b"sent".to_vec())]);
    assert_eq!(peers.wire.recv_calls(), calls + 2, "one turn: a receive, and one that finds nothing");
}

#[test]
fn a_panic_in_a_turn_ends_that_peer_only() {
    let peers = crowd();
    assert_eq!(peers.say([5], "panic"), [address(5)]);
    assert_eq!((peers.panics.load(Ordering::Relaxed), peers.server.sessions()), (1, CROWD - 1));
    assert_eq!(peers.say([4, 6], "hello"), [address(4), address(6)]);
}

#[test]
fn a_waker_that_is_kept_is_its_peers_own() {
    let peers = crowd();
    peers.say(0..100, "wake");
    let wakers = std::mem::take(&mut *peers.crowd.wakers.lock().unwrap());
    assert_eq!(wakers.len(), 100);
    for (peer, waker) in wakers.iter().rev() {
        waker.wake_by_ref();
        assert_eq!(peers.take_turns(), [*peer]);
    }
    // A peer is given the same waker again, and the waker of a peer that is gone wakes no one.
    peers.say([50], "wake");
    let (_, again) = peers.crowd.wakers.lock().unwrap().pop().unwrap();
    assert!(again.will_wake(&wakers[50].1));
    peers.say([50], "panic");
    again.wake();
    assert_eq!(peers.take_turns(), []);
}

#[test]
fn turns_of_many_peers_at_once_are_bounded_and_none_is_forgotten() {
    let peers = crowd();
    peers.say(0..CROWD, "wake");
    let wakers = std::mem::take(&mut *peers.crowd.wakers.lock().unwrap());
    assert_eq!(wakers.len(), CROWD);
    let calls = peers.wire.recv_calls();
    wakers.iter().for_each(|(_, waker)| waker.wake_by_ref());
    let mut turns = peers.take_turns();
    let polls = peers.wire.recv_calls() - calls;
    assert!(polls >= CROWD / 1024, "{polls} polls");
    turns.sort_unstable();
    turns.dedup();
    assert_eq!(turns.len(), CROWD);
    // The same for deadlines.
    peers.say(0..CROWD, "later");
    let calls = peers.wire.recv_calls();
    fake::advance(secs(1));
    let mut turns = peers.take_turns();
    assert!(peers.wire.recv_calls() - calls >= CROWD / 1024);
    turns.sort_unstable();
    turns.dedup();
    assert_eq!(turns.len(), CROWD);
}

#[test]
fn a_refused_send_in_a_turn_is_told_when_there_is_room() {
    let log = Log::default();
    let mut left = 100;
    let listener = Turner::new(&log, move |cx, _| {
        while left > 0 {
            match cx.send(Bytes::from(vec![0; 1000])) {
                Ok(_) => left -= 1,
                Err(SendError::Blocked(_)) => break,
                Err(error) => panic!("{error}"),
            }
        }
        None
    });
    let (mut task, wire) = turning(config(|c| c.watermarks(500, 1000).max_queued(5000)), listener);
    task.settle();
    assert_eq!(frames(&wire.take_written()).0.len(), 100, "it has another turn each time there is room");
    assert!(log.count("on_writable") > 10);
    assert!(log.count("on_turn") > log.count("on_writable"));
}

/// Notes that `on_close` makes about its session.
type Farewell = Arc<Mutex<Vec<String>>>;

struct Leaver(Farewell);

impl<M: getty_core::Messages> Listener<M> for Leaver {
    fn on_open(&mut self, cx: &mut Context<'_, M>, _: &Opened) -> Result<(), Refuse> {
        cx.set_name("left");
        cx.set_attribute(7_u32);
        Ok(())
    }

    fn on_message(&mut self, _: &mut Context<'_, M>, _: M::In) {}

    fn on_close(&mut self, cx: &mut Context<'_, M>, reason: &CloseReason) {
        let name = cx.name().unwrap_or_else(|| "nobody".into());
        let peer = cx.peer_addr().map_or(0, |peer| peer.port());
        let attribute = cx.attribute::<u32>().map_or(0, |number| *number);
        let came = cx.was_opened();
        let messages = cx.stats().received.messages;
        self.0
            .lock()
            .unwrap()
            .push(format!("{name} {} {peer} {attribute} {came} {messages}: {reason}", cx.id()));
    }
}

#[test]
fn the_last_callback_still_knows_its_session() {
    let said = Farewell::default();
    let (io, wire) = wire();
    let io = io.with_addresses("192.0.2.1:1", "192.0.2.2:2");
    let mut task = Task::new(Driver::<Fake, _, _, _>::new(session(Arc::default()), io, Leaver(said.clone())));
    let handle = task.get_mut().handle();
    task.settle();
    wire.send_frame("hello");
    wire.eof();
    assert!(task.finish().is_clean());
    let expected = format!("left {} 2 7 true 1: closed by the peer", handle.id());
    assert_eq!(*said.lock().unwrap(), [expected]);
    assert!(handle.attribute::<u32>().is_none(), "attributes are dropped after that");
}

#[test]
fn the_last_callback_knows_that_its_session_never_opened() {
    let said = Farewell::default();
    let (io, wire) = wire();
    let protocol = WebSocket::server(ServerOptions::new());
    let session = Session::new(protocol, Config::default().into(), now::<Fake>());
    let mut task = Task::new(Driver::<Fake, _, _, _>::new(session, io, Leaver(said.clone())));
    let id = task.get_mut().handle().id();
    wire.fail(std::io::ErrorKind::ConnectionReset);
    assert!(!task.finish().is_clean());
    assert_eq!(*said.lock().unwrap(), [format!("nobody {id} 0 0 false 0: transport: connection reset")]);
}

#[test]
fn the_last_callback_of_a_peer_still_knows_it() {
    let said = Farewell::default();
    let made = said.clone();
    let builder = Server::<Fake>::builder();
    let listener = move |_| Some(Leaver(made.clone()));
    let limits = PeerLimits::new();
    let server = fake::block_on(builder.udp_peers("127.0.0.1:0", limits, Raw, listener)).unwrap();
    fake::run();
    fake::udp_wire().receives([(path(1), b"hello".to_vec())]);
    fake::run();
    let id = fake::block_on(server.list())[0].id;
    drop(server);
    fake::run();
    let expected = format!("left {id} 7 7 true 1: closed by this end, not everything was sent");
    assert_eq!(*said.lock().unwrap(), [expected]);
}
