//! [`Roster`]: the common state of a [`Pool`](crate::Pool) and its sessions.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::{Event, EventListener};
use getty_core::{SendError, Timestamp};

use super::addresses::{Addresses, Attempt, Choice, Target};
use super::select::Select;
use super::stats::{AddressStats, PoolStats};
use crate::drive::members::{Endpoint, Phase};
use crate::session::handle::Handle;

/// The open sessions, the state of the addresses, and the items that wait for a session.
pub(super) struct Roster<O, A> {
    select: Select,
    /// The number of sessions the pool keeps.
    sessions: usize,
    pub(super) endpoint: Arc<Endpoint>,
    /// A session has opened or ended, or an attempt has failed.
    changed: Event,
    /// The number of items that wait for a session. Every session checks it in each turn.
    carried: AtomicUsize,
    state: Mutex<State<O, A>>,
}

struct State<O, A> {
    addresses: Addresses<A>,
    ready: Vec<Ready<O>>,
    /// The index of the session whose turn it is.
    next: usize,
    /// Items posted to sessions that ended before taking them. At most as many as fit into the queues of all
    /// sessions, since a new session gets these first.
    carried: VecDeque<O>,
}

/// An open session.
struct Ready<O> {
    handle: Handle<O>,
    /// Set when it has to leave.
    leaves: Arc<AtomicBool>,
}

impl<O, A> State<O, A> {
    /// The index of the session to try first.
    fn first(&self, select: Select) -> usize {
        match select {
            Select::RoundRobin => self.next,
            Select::LeastLoaded => {
                let sessions = self.ready.len();
                let in_turn = (0..sessions).map(|i| (self.next + i) % sessions);
                let loads = in_turn.filter_map(|i| Some((self.ready[i].handle.load()?, i)));
                loads.min_by_key(|(load, _)| *load).map_or(self.next, |(_, i)| i)
            }
        }
    }
}

impl<O, A: Target> Roster<O, A> {
    pub(super) fn new(select: Select, sessions: usize, addresses: Addresses<A>) -> Self {
        Roster {
            select,
            sessions,
            endpoint: Arc::new(Endpoint::default()),
            changed: Event::new(),
            carried: AtomicUsize::new(0),
            state: Mutex::new(State { addresses, ready: Vec::new(), next: 0, carried: VecDeque::new() }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<O, A>> {
        // No user code runs under this lock, except wakers' clones.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens for the next change.
    pub(super) fn listen(&self) -> EventListener {
        self.changed.listen()
    }

    /// Notifies all listeners of a change.
    pub(super) fn notify(&self) {
        self.changed.notify(usize::MAX);
    }

    pub(super) fn choose(&self, now: Timestamp) -> Choice<A> {
        self.lock().addresses.choose(now)
    }

    /// Replaces the addresses. Attempts and sessions that have to leave get nothing more, and their tasks
    /// abandon or drain them. These are those of removed addresses and, if there is a new address, those of
    /// the others beyond an even share.
    pub(super) fn set_addresses(&self, targets: Vec<A>) {
        let mut state = self.lock();
        let State { addresses, ready, .. } = &mut *state;
        if addresses.set(targets) {
            addresses.spread(self.sessions);
        }
        ready.retain(|ready| !ready.leaves.load(Ordering::Relaxed));
        drop(state);
        self.endpoint.wake_all();
        self.notify();
    }

    /// Records that the session of an attempt leaves. Until it has ended, another one is made beside it.
    pub(super) fn drains(&self, attempt: &Attempt<A>) {
        self.lock().addresses.drains(attempt);
        self.notify();
    }

    /// Records that a session that had to leave has ended.
    pub(super) fn drained(&self) {
        self.lock().addresses.drained();
        self.notify();
    }

    /// Records that a session has opened, and gives it the waiting items. Then offers it to callers, unless
    /// it has to leave already.
    pub(super) fn opened(&self, attempt: &mut Attempt<A>, handle: &Handle<O>, now: Timestamp) {
        self.feed(handle);
        let mut state = self.lock();
        state.addresses.opened(attempt, now);
        if attempt.has_to_leave() {
            return;
        }
        state.ready.push(Ready { handle: handle.clone(), leaves: attempt.leaves() });
        drop(state);
        self.feed(handle); // items carried over meanwhile were offered to others only
        self.notify();
    }

    /// Stops offering a session to callers.
    pub(super) fn withdraw(&self, attempt: &Attempt<A>, handle: &Handle<O>) {
        let mut state = self.lock();
        let place = state.ready.iter().position(|ready| ready.handle.id() == handle.id());
        let withdrawn = place.map(|place| state.ready.remove(place));
        if withdrawn.is_some() {
            state.addresses.closes(attempt);
        }
        drop(state);
        if withdrawn.is_some() {
            self.notify();
        }
    }

    /// Records that an attempt failed, or that its session ended.
    pub(super) fn over(&self, attempt: &Attempt<A>, now: Timestamp, error: String) {
        self.lock().addresses.over(attempt, now, error);
        self.notify();
    }

    /// Records that an attempt or a session was abandoned.
    pub(super) fn left(&self, attempt: &Attempt<A>) {
        self.lock().addresses.left(attempt);
        self.notify();
    }

    /// Passes items that a session did not take to other sessions: to those with room now, then to the first
    /// that has room later.
    pub(super) fn carry(&self, items: Vec<O>) {
        if items.is_empty() {
            return;
        }
        self.change_carried(|carried| carried.extend(items));
        // A full session checks in its next turn, which it has as soon as there is room.
        self.ready().iter().for_each(|handle| self.feed(handle));
    }

    /// Gives a session as many of the waiting items as it has room for.
    pub(super) fn feed(&self, handle: &Handle<O>) {
        // A session without room must not take an item even for a moment: one with room might find none
        // meanwhile.
        while self.carried.load(Ordering::Relaxed) > 0 && handle.has_room() {
            let Some(item) = self.change_carried(VecDeque::pop_front) else { return };
            let refused = handle.post_pooled(item).err().and_then(SendError::into_item);
            if let Some(item) = refused {
                return self.change_carried(|carried| carried.push_front(item));
            }
        }
    }

    fn change_carried<T>(&self, change: impl FnOnce(&mut VecDeque<O>) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state.carried);
        self.carried.store(state.carried.len(), Ordering::Relaxed);
        result
    }

    /// Removes and returns the items that no session took.
    pub(super) fn take_carried(&self) -> Vec<O> {
        self.change_carried(std::mem::take).into()
    }

    /// The open sessions, each once, beginning with the selected one.
    fn in_turn(&self) -> impl Iterator<Item = Handle<O>> {
        let mut first = None; // fixed for this round, since concurrent callers change `next`
        (0..).map_while(move |turn| self.pick(turn, &mut first))
    }

    fn pick(&self, turn: usize, first: &mut Option<usize>) -> Option<Handle<O>> {
        let mut state = self.lock();
        let sessions = state.ready.len();
        if turn >= sessions {
            return None;
        }
        let first = *first.get_or_insert_with(|| state.first(self.select));
        let place = (first + turn) % sessions;
        state.next = place + 1;
        Some(state.ready[place].handle.clone())
    }

    /// An open session that is not closing.
    pub(super) fn get(&self) -> Option<Handle<O>> {
        self.in_turn().find(|handle| handle.load().is_some())
    }

    /// The open sessions.
    pub(super) fn ready(&self) -> Vec<Handle<O>> {
        self.lock().ready.iter().map(|ready| ready.handle.clone()).collect()
    }

    /// The number of sessions the pool keeps.
    pub(super) fn wanted(&self) -> usize {
        self.sessions
    }

    pub(super) fn open(&self) -> usize {
        self.lock().ready.len()
    }

    /// Posts an item to a session that has room.
    pub(super) fn post(&self, mut item: O) -> Result<(), SendError<O>> {
        let mut is_blocked = false;
        for handle in self.in_turn() {
            match handle.post_pooled(item) {
                Ok(()) => return Ok(()),
                Err(SendError::Blocked(back)) => {
                    is_blocked = true;
                    item = back;
                }
                Err(SendError::Closed(back)) => item = back,
                Err(error) => return Err(error),
            }
        }
        Err(match self.is_over() {
            true => SendError::Closed(item),
            false if is_blocked => SendError::Blocked(item),
            false => SendError::NotOpen(item),
        })
    }

    /// Whether there is no session and none will open.
    pub(super) fn is_over(&self) -> bool {
        self.is_closed() || self.is_given_up()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.endpoint.phase() != Phase::Running
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.lock().addresses.are_given_up()
    }

    pub(super) fn address_stats(&self, now: Timestamp) -> Vec<AddressStats> {
        self.lock().addresses.stats(now)
    }

    pub(super) fn stats(&self, now: Timestamp) -> PoolStats {
        let state = self.lock();
        let (open, connecting) = (state.addresses.open(), state.addresses.connecting());
        PoolStats {
            open: state.ready.len(),
            closing: open.saturating_sub(state.ready.len()) + state.addresses.draining(),
            connecting,
            waiting: self.sessions.saturating_sub(open + connecting),
            carried: state.carried.len(),
            addresses: state.addresses.stats(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use getty_core::Backoff;

    use super::*;
    use crate::session::id::SessionId;
    use crate::session::shared::Shared;

    fn roster() -> Roster<usize, String> {
        Roster::new(Select::RoundRobin, 2, Addresses::new(vec!["a".to_owned()], &Backoff::new(), 0))
    }

    /// A session with room for `room` items.
    fn session(room: usize) -> Handle<usize> {
        Handle::new(Arc::new(Shared::new(SessionId::next(), None, None, room)))
    }

    /// Waits until both threads have arrived `times` times.
    fn meet(arrived: &AtomicUsize, times: usize) {
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < 2 * times {
            thread::yield_now(); // there may be only one core
        }
    }

    #[test]
    fn what_is_left_over_while_a_session_opens_goes_there() {
        let rounds: Vec<_> = (0..20_000).map(|_| (roster(), session(4))).collect();
        let arrived = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for (i, (roster, session)) in rounds.iter().enumerate() {
                    let Choice::Connect(mut attempt) = roster.choose(Timestamp::ORIGIN) else { return };
                    meet(&arrived, i + 1);
                    (0..i % 64).for_each(|_| std::hint::spin_loop());
                    roster.opened(&mut attempt, session, Timestamp::ORIGIN);
                }
            });
            for (i, (roster, _)) in rounds.iter().enumerate() {
                meet(&arrived, i + 1);
                (0..i / 64 % 64).for_each(|_| std::hint::spin_loop());
                roster.carry(vec![1]);
            }
        });
        let stuck = rounds.iter().filter(|(_, session)| session.load() != Some(1)).count();
        assert_eq!(stuck, 0);
    }

    #[test]
    fn a_session_without_room_keeps_nothing_from_one_that_has_room() {
        let (roster, full, done) = (roster(), session(0), AtomicBool::new(false));
        let stuck = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    roster.feed(&full);
                }
            });
            let missed = |_: &usize| {
                let free = session(1);
                roster.change_carried(|carried| carried.push_back(1));
                roster.feed(&free);
                free.load() != Some(1)
            };
            let stuck = (0..100_000).filter(missed).count();
            done.store(true, Ordering::Relaxed);
            stuck
        });
        assert_eq!(stuck, 0);
    }
}
