//! [`PeersDriver`]: the task of a datagram socket with a session for each peer.
//!
//! It takes turns as every task does ([`Turns`]), but is not a [`Task`](crate::drive::task::Task) of one
//! session: it holds up to 100 000 sessions, a turn must touch only those with work to do, and all share
//! one budget.

use std::any::Any;
use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::mem;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use getty_core::codec::{Decoder, Encoder};
use getty_core::datagram::{Dropped, Path, PeerKey, Peers, PeersEvent};
use getty_core::{
    Accepted, Close, CloseReason, Config, Event, Items, Messages, SendError, Seq, Stats, Timestamp, Work,
};

use crate::drive::actor::{self, Actor, OnPanic};
use crate::drive::members::{Endpoint, Member, Membership, Phase};
use crate::drive::packet_engine::PacketEngine;
use crate::drive::peer_waker::{SpareWaker, Woken};
use crate::drive::slots::Role;
use crate::drive::timing::{Timing, earlier};
use crate::drive::turn::{Flow, Turn, Turns};
use crate::runtime::Runtime;
use crate::runtime::io::PacketIo;
use crate::session::context::AnySession;
use crate::session::id::SessionId;
use crate::session::listener::Listener;
use crate::session::turn_budget::TurnBudget;

/// Receives per turn; each may return many datagrams.
const TURN_READS: u32 = 16;

/// Events delivered in one turn, to all peers together, and listeners that get their own turn in it.
const TURN_EVENTS: u32 = 1024;

/// An endpoint's callback for dropped or undeliverable datagrams.
pub(crate) type OnDropped = Arc<dyn Fn(&Dropped) + Send + Sync>;

/// The task of a datagram socket whose peers each have a session with its own listener: a future that is
/// ready when the socket's work is over. `ML` makes the listener of a new peer, or rejects the peer with
/// `None`.
///
/// # Cancel safety
/// Dropping the future ends all sessions at once without a callback, as for [`Driver`](crate::Driver).
#[must_use = "futures do nothing unless polled"]
pub struct PeersDriver<R: Runtime, I, C: Decoder + Encoder<O>, O, L, ML> {
    engine: PacketEngine<I, Peers<C, O>>,
    timing: Timing<R>,
    make: ML,
    /// The sessions, by the index of their keys.
    tasks: PeerTasks<L, Items<C::Item, O>>,
    /// Number of sessions.
    open: usize,
    /// Sessions that must be visited in the next turn in any case, because something of theirs waits.
    waiting: Vec<PeerKey>,
    /// Sessions visited in this turn.
    dirty: Vec<PeerKey>,
    /// Sessions whose listeners are owed a turn.
    owed: VecDeque<PeerKey>,
    /// The latest turn times of listeners, with the indices of their sessions. A tree, because the ticks of
    /// the wheel for the sessions' own deadlines are fractions of the configured periods: they may be
    /// seconds.
    turns_at: BTreeSet<(Timestamp, usize)>,
    /// Sessions whose handles know that there is no room.
    cramped: Vec<PeerKey>,
    woken: Arc<Woken>,
    /// The waker for listeners that have not kept one so far.
    spare: SpareWaker,
    /// Events that may still be delivered in this turn, and likewise turns of listeners.
    events: u32,
    turns: u32,
    on_panic: Option<OnPanic>,
    on_dropped: Option<OnDropped>,
    /// The endpoint is shutting down: no new peers are accepted.
    closing: bool,
    /// The socket's work was ended.
    closed: bool,
    endpoint: Arc<Endpoint>,
    /// Dropped after the socket and the listeners: a caller that waits for the members waits for those.
    membership: Membership,
}

/// One place per index; empty ones are reused.
type PeerTasks<L, M> = Vec<Option<PeerTask<L, M>>>;

/// The session of one peer.
struct PeerTask<L, M: Messages> {
    key: PeerKey,
    actor: Actor<L, M>,
    /// The waker for its handles and its listener. Created when first needed.
    waker: Option<Waker>,
    dirty: bool,
    waits: bool,
    /// Its listener is owed a turn.
    owed: bool,
    /// Its handles know that there is no room.
    cramped: bool,
    _member: Member,
}

// No field is ever pinned.
impl<R: Runtime, I, C: Decoder + Encoder<O>, O, L, ML> Unpin for PeersDriver<R, I, C, O, L, ML> {}

impl<R, I, C, O, L, ML> PeersDriver<R, I, C, O, L, ML>
where
    R: Runtime,
    I: PacketIo,
    C: Decoder + Encoder<O>,
    L: Listener<Items<C::Item, O>>,
    ML: Fn(Path) -> Option<L>,
{
    pub(crate) fn new(peers: Peers<C, O>, io: I, make: ML, endpoint: Arc<Endpoint>) -> Self {
        let mut membership = Membership::none();
        membership.set(endpoint.join(Role::SocketTask));
        PeersDriver {
            engine: PacketEngine::new(peers, io),
            timing: Timing::new(),
            make,
            tasks: Vec::new(),
            open: 0,
            waiting: Vec::new(),
            dirty: Vec::new(),
            owed: VecDeque::new(),
            turns_at: BTreeSet::new(),
            cramped: Vec::new(),
            woken: Arc::default(),
            spare: SpareWaker::default(),
            events: 0,
            turns: 0,
            on_panic: None,
            on_dropped: None,
            closing: false,
            closed: false,
            endpoint,
            membership,
        }
    }

    pub(crate) fn set_hooks(&mut self, on_panic: Option<OnPanic>, on_dropped: Option<OnDropped>) {
        (self.on_panic, self.on_dropped) = (on_panic, on_dropped);
    }

    /// Calls the listeners for every available event; returns the close reason when all is over.
    fn deliver_events(&mut self, now: Timestamp) -> Flow {
        while self.events > 0 && self.engine.machine.wants_poll() {
            self.events -= 1;
            let Some(event) = self.engine.machine.poll_event() else { break };
            match event {
                PeersEvent::Unknown(path) => self.on_unknown(now, path),
                PeersEvent::Peer(key, event) => self.handle_event(now, key, event),
                PeersEvent::Dropped(dropped) => {
                    if let Some(on_dropped) = &self.on_dropped {
                        let _ = catch_unwind(AssertUnwindSafe(|| on_dropped(&dropped)));
                    }
                }
                PeersEvent::Closed(reason) => return ControlFlow::Break(reason),
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    /// Asks whether to accept an unknown peer.
    fn on_unknown(&mut self, now: Timestamp, path: Path) {
        let made = if self.closing { Ok(None) } else { catch_unwind(AssertUnwindSafe(|| (self.make)(path))) };
        let listener = made.unwrap_or_else(|panic| {
            actor::report_panic(self.on_panic.as_ref(), SessionId::next(), &*panic);
            None
        });
        let admitted = self.engine.machine.admit(listener.is_some());
        let (Some(key), Some(listener)) = (admitted, listener) else { return };
        let addresses = [self.engine.io.local_addr(), Some(path.peer)];
        let since = self.engine.machine.last_active(key).unwrap_or(now);
        let mut actor = Actor::new(listener, addresses, since, false);
        actor.set_on_panic(self.on_panic.clone());
        if self.tasks.len() <= key.index() {
            self.tasks.resize_with(key.index() + 1, || None);
        }
        let mut _member = self.endpoint.join(Role::PeerSession);
        _member.open(); // there is no handshake
        self.tasks[key.index()] = Some(PeerTask {
            key,
            actor,
            waker: None,
            dirty: false,
            waits: false,
            owed: false,
            cramped: false,
            _member,
        });
        self.open += 1;
    }

    fn handle_event(&mut self, now: Timestamp, key: PeerKey, event: Event<C::Item>) {
        let Some(slot) = self.tasks.get_mut(key.index()) else { return };
        let Some(task) = slot.as_mut().filter(|task| task.key == key) else { return };
        mark_dirty(task, &mut self.dirty, &mut self.owed);
        let mut session = PeerSession { peers: &mut self.engine.machine, key };
        // The task's own budget covers all sessions.
        let budget = &mut TurnBudget::new();
        if let Some(reason) = task.actor.handle_event(&mut session, now, budget, event) {
            task.actor.finish(&mut session, now, reason);
            if let Some(at) = task.actor.turn_at() {
                self.turns_at.remove(&(at, key.index()));
            }
            *slot = None;
            self.open -= 1;
        } else if self.closing {
            // The session may have opened only after the others saw the shutdown.
            task.actor.obey(&mut session, now, budget, Phase::ShuttingDown);
        }
    }

    /// Carries out the requests of handles, and continues what had to wait.
    fn take_posted(&mut self, now: Timestamp) {
        let mut keys = mem::take(&mut self.waiting);
        // The first may take all the room. Once there is room again, it goes last.
        if keys.first().is_some_and(|&first| self.engine.machine.is_writable(first)) {
            keys.rotate_left(1);
        }
        keys.extend(self.woken.take());
        for key in keys {
            let Some(task) = task_of(&mut self.tasks, key) else { continue };
            task.waits = false;
            mark_dirty(task, &mut self.dirty, &mut self.owed);
            task.actor.owe_turn();
            let mut session = PeerSession { peers: &mut self.engine.machine, key };
            task.actor.take_posted(&mut session, now, &mut TurnBudget::new());
        }
    }

    /// Visits sessions whose handles wait for room, once there is some: it is the same room for all. Returns
    /// whether there are more than one turn visits.
    fn report_room(&mut self) -> bool {
        let machine = &self.engine.machine;
        for _ in 0..TURN_EVENTS {
            let Some(&key) = self.cramped.last() else {
                self.cramped = Vec::new();
                return false;
            };
            if machine.is_open(key) && !machine.is_writable(key) {
                return false;
            }
            self.cramped.pop();
            let Some(task) = task_of(&mut self.tasks, key) else { continue };
            task.cramped = false;
            if !mem::replace(&mut task.dirty, true) {
                self.dirty.push(key);
            }
        }
        true
    }

    /// Whether all sessions are over after a shutdown, so that the socket can be closed.
    fn is_done(&self) -> bool {
        self.closing && self.open == 0 && !self.closed
    }

    /// Follows the endpoint.
    fn obey_endpoint(&mut self, now: Timestamp) {
        let phase = self.membership.check();
        let known = mem::replace(&mut self.closing, phase != Phase::Running);
        match phase {
            Phase::Running => {}
            Phase::ShuttingDown if known => {}
            Phase::ShuttingDown => {
                for task in self.tasks.iter_mut().flatten() {
                    mark_dirty(task, &mut self.dirty, &mut self.owed);
                    let mut session = PeerSession { peers: &mut self.engine.machine, key: task.key };
                    task.actor.obey(&mut session, now, &mut TurnBudget::new(), phase);
                }
            }
            Phase::Aborting => {
                self.closed = true;
                self.engine.machine.close(now, Close::abort());
            }
        }
    }
}

/// The session `key`, if it still exists.
fn task_of<L, M: Messages>(all: &mut [Option<PeerTask<L, M>>], key: PeerKey) -> Option<&mut PeerTask<L, M>> {
    all.get_mut(key.index())?.as_mut().filter(|task| task.key == key)
}

/// Marks a session as visited in this turn, with a turn owed to its listener.
fn mark_dirty<L, M: Messages>(
    task: &mut PeerTask<L, M>,
    dirty: &mut Vec<PeerKey>,
    owed: &mut VecDeque<PeerKey>,
) {
    if !mem::replace(&mut task.dirty, true) {
        dirty.push(task.key);
    }
    if !mem::replace(&mut task.owed, true) {
        owed.push_back(task.key);
    }
}

impl<R, I, C, O, L, ML> Turns for PeersDriver<R, I, C, O, L, ML>
where
    R: Runtime,
    I: PacketIo,
    C: Decoder + Encoder<O>,
    L: Listener<Items<C::Item, O>>,
    ML: Fn(Path) -> Option<L>,
{
    type Runtime = R;

    fn timing(&mut self) -> &mut Timing<R> {
        &mut self.timing
    }

    fn membership(&mut self) -> &mut Membership {
        &mut self.membership
    }

    fn begin_turn(&mut self, now: Timestamp) -> Turn {
        (self.events, self.turns) = (TURN_EVENTS, TURN_EVENTS);
        self.take_posted(now);
        self.obey_endpoint(now);
        Turn::new(TURN_READS, Work::default())
    }

    fn deliver(&mut self, now: Timestamp, turn: &mut Turn) -> Flow {
        loop {
            self.deliver_events(now)?;
            if !self.is_done() {
                turn.check(Work::default(), self.events == 0);
                return ControlFlow::Continue(());
            }
            self.closed = true;
            self.engine.machine.close(now, Close::graceful());
        }
    }

    fn has_more(&mut self) -> bool {
        self.engine.machine.wants_poll() || self.is_done()
    }

    fn has_much_to_write(&self) -> bool {
        self.engine.is_send_due()
    }

    fn holds_back(&self) -> bool {
        true // messages queued for one peer may hold back those from another
    }

    fn write(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Option<usize> {
        let sessions = &mut self.tasks;
        let unsent = |(key, seq), failure| {
            if let Some(task) = task_of(sessions, key) {
                task.actor.report_unsent(seq, failure);
            }
        };
        self.engine.send(cx, now, unsent).then_some(0)
    }

    /// Calls the listeners of sessions that were visited in this turn, woken, or due.
    fn call_turns(&mut self, _cx: &mut Context<'_>, now: Timestamp, _turn: &mut Turn) -> bool {
        let mut called = false;
        while self.turns > 0 {
            let Some(key) = self.owed.pop_front() else { break };
            let Some(task) = task_of(&mut self.tasks, key) else { continue };
            self.turns -= 1;
            task.owed = false;
            let before = task.actor.turn_at();
            let mut session = PeerSession { peers: &mut self.engine.machine, key };
            let PeerTask { actor, waker, .. } = &mut *task;
            let budget = &mut TurnBudget::new();
            let mut take =
                |waker: &Waker| actor.take_turn(&mut session, now, budget, &mut Context::from_waker(waker));
            called |= match waker {
                Some(waker) => take(waker),
                None => {
                    let (called, kept) = self.spare.lend(&self.woken, key, take);
                    *waker = kept;
                    called
                }
            };
            let after = task.actor.turn_at();
            if let Some(before) = before.filter(|_| before != after) {
                self.turns_at.remove(&(before, key.index()));
            }
            if let Some(after) = after.filter(|&after| before != Some(after) || after <= now) {
                self.turns_at.insert((after, key.index()));
            }
        }
        called
    }

    fn wants_read(&self) -> bool {
        self.engine.machine.wants_read()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<usize> {
        self.engine.poll_receive(cx, now).map(|()| 0)
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let turn_at = self.turns_at.first().map(|&(at, _)| at);
        earlier(self.engine.next_deadline(), turn_at)
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        self.engine.machine.handle_timeout(now);
        for _ in 0..TURN_EVENTS {
            let first = self.turns_at.first().copied().filter(|&(at, _)| at <= now);
            let Some((at, index)) = first else { break };
            self.turns_at.remove(&(at, index));
            if let Some(task) = self.tasks.get_mut(index).and_then(Option::as_mut) {
                mark_dirty(task, &mut self.dirty, &mut self.owed);
                task.actor.owe_turn();
            }
        }
    }

    /// Ends all sessions.
    #[cold]
    fn end_panicked(&mut self, now: Timestamp, panic: &(dyn Any + Send)) -> Box<CloseReason> {
        actor::report_panic(self.on_panic.as_ref(), SessionId::next(), panic);
        self.engine.machine.close(now, Close::panicked());
        loop {
            match self.engine.machine.poll_event() {
                Some(PeersEvent::Peer(key, event @ Event::Closed(_))) => self.handle_event(now, key, event),
                Some(PeersEvent::Closed(reason)) => return reason,
                Some(_) => {}
                None => return Box::new(CloseReason::Panicked),
            }
        }
    }

    fn give_back(&mut self) {
        self.engine.give_back();
    }

    fn end_turn(&mut self, cx: &mut Context<'_>) {
        self.woken.set_task(cx.waker());
        if self.report_room() {
            cx.waker().wake_by_ref();
        }
        for key in mem::take(&mut self.dirty) {
            let Some(task) = task_of(&mut self.tasks, key) else { continue };
            task.dirty = false;
            if !task.actor.has_handles() {
                continue;
            }
            let waker = task.waker.get_or_insert_with(|| self.woken.waker(key));
            let session = PeerSession { peers: &mut self.engine.machine, key };
            let again = !task.actor.end_turn(&session, waker);
            let has_room = session.is_writable();
            if session.is_open() && !has_room && !mem::replace(&mut task.cramped, true) {
                self.cramped.push(key);
            }
            let progress = session.stats().progress;
            let waits = task.actor.has_backlog() || progress.flushed < progress.accepted;
            if (again || waits) && !mem::replace(&mut task.waits, true) {
                self.waiting.push(key);
            }
            // Items that had no room find some now: nothing else would bring a turn for them.
            if again || task.actor.has_backlog() && has_room {
                cx.waker().wake_by_ref();
            }
        }
        // Those owed a turn in a late task wait for the turn that it has yielded for.
        let owed = !self.owed.is_empty() && !self.timing.has_put_off();
        if owed || !self.woken.is_empty() || self.closing && self.engine.machine.wants_poll() {
            cx.waker().wake_by_ref();
        }
        let Self { membership, tasks, engine, .. } = self;
        membership.end_turn(cx.waker(), || {
            let all = tasks.iter().flatten();
            all.map(|t| t.actor.info(&PeerSession { peers: &mut engine.machine, key: t.key })).collect()
        });
    }
}

impl<R, I, C, O, L, ML> Future for PeersDriver<R, I, C, O, L, ML>
where
    R: Runtime,
    I: PacketIo,
    C: Decoder + Encoder<O>,
    L: Listener<Items<C::Item, O>>,
    ML: Fn(Path) -> Option<L>,
{
    type Output = Box<CloseReason>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Box<CloseReason>> {
        self.poll_turn(cx)
    }
}

impl<R: Runtime, I, C: Decoder + Encoder<O>, O, L, ML> Drop for PeersDriver<R, I, C, O, L, ML> {
    fn drop(&mut self) {
        for task in self.tasks.iter_mut().flatten() {
            task.actor.abandon(&PeerSession { peers: &mut self.engine.machine, key: task.key });
        }
    }
}

/// One peer's session.
struct PeerSession<'a, C, O> {
    peers: &'a mut Peers<C, O>,
    key: PeerKey,
}

impl<C: Decoder + Encoder<O>, O> AnySession<Items<C::Item, O>> for PeerSession<'_, C, O> {
    #[inline]
    fn send(&mut self, item: O) -> Result<Accepted, SendError<O>> {
        self.peers.send(self.key, item)
    }

    #[inline]
    fn next_message(&mut self, _: u64) -> Option<C::Item> {
        self.peers.poll_message(self.key)
    }

    fn path(&self) -> Option<Path> {
        self.peers.path(self.key)
    }

    fn validate(&mut self) {
        self.peers.validate(self.key);
    }

    fn end_reply(&mut self) {
        self.peers.end_reply();
    }

    fn close(&mut self, now: Timestamp, how: Close) {
        self.peers.close_peer(now, self.key, how);
    }

    fn pause(&mut self) {
        self.peers.pause(self.key);
    }

    fn resume(&mut self, now: Timestamp) {
        self.peers.resume(now, self.key);
    }

    fn is_open(&self) -> bool {
        self.peers.is_open(self.key)
    }

    fn is_over(&self) -> bool {
        !self.peers.is_open(self.key)
    }

    fn is_writable(&self) -> bool {
        self.peers.is_writable(self.key)
    }

    fn notify_flushed(&mut self) -> Option<Seq> {
        self.peers.notify_flushed(self.key)
    }

    fn update_active(&mut self, now: Timestamp) {
        self.peers.update_active(now, self.key);
    }

    fn last_active(&self) -> Timestamp {
        self.peers.last_active(self.key).unwrap_or(Timestamp::ORIGIN)
    }

    fn stats(&self) -> Stats {
        self.peers.stats(self.key)
    }

    fn config(&self) -> &Config {
        self.peers.config()
    }
}
