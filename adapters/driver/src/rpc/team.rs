//! [`Team`]: the open sessions of a pool, among which calls choose.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_listener::{Event, EventListener};
use getty_core::rpc::{Code, Config, Executed, Status};

use crate::endpoint::wait::Wait;
use crate::rpc::mailbox::Mailbox;

/// The sessions of a pool that are open and not leaving, and the calls that wait for one.
pub(crate) struct Team {
    /// Makes a timer of the runtime.
    wait: fn(Duration) -> Wait,
    /// The limits of calls that wait.
    max_waiting: usize,
    max_waiting_bytes: usize,
    /// A session has opened, or none will.
    changed: Event,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Vec<Arc<Mailbox>>,
    /// Counts the calls, so that sessions take turns.
    turn: usize,
    /// Callers, and calls that wait. While there are any, each session has one caller.
    callers: usize,
    waiting: usize,
    waiting_bytes: usize,
    /// No session can open any longer.
    is_over: bool,
}

/// What a call finds that has been refused before.
pub(super) enum Choice {
    /// A session that has not refused it.
    Other(Arc<Mailbox>),
    /// Only sessions that have.
    Again(Arc<Mailbox>),
    /// None is open yet.
    None,
    /// None can open any longer.
    Over,
}

impl Team {
    pub(super) fn new(wait: fn(Duration) -> Wait, config: &Config) -> Arc<Self> {
        Arc::new(Team {
            wait,
            max_waiting: config.max_waiting(),
            max_waiting_bytes: config.max_waiting_bytes(),
            changed: Event::new(),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The less loaded one of two open sessions, which are others each time.
    pub(super) fn pick(&self) -> Option<Arc<Mailbox>> {
        let mut state = self.lock();
        let count = state.open.len();
        let turn = state.turn;
        state.turn = turn.wrapping_add(1);
        let first = turn.checked_rem(count)?;
        // The distance changes with each round, so that all pairs have their turns.
        let distance = (turn / count).checked_rem(count - 1).map_or(0, |distance| distance + 1);
        let [first, second] = [first, (first + distance) % count].map(|place| &state.open[place]);
        let picked = if second.load.get() < first.load.get() { second } else { first };
        Some(picked.clone())
    }

    /// The least loaded session that is not one of those that have `refused`, if there is any other.
    pub(super) fn pick_besides(&self, refused: &[Arc<Mailbox>]) -> Choice {
        let state = self.lock();
        // Calls that move take no turn, or a session that refuses might be the first choice of all.
        let Some(first) = state.turn.checked_rem(state.open.len()) else {
            return if state.is_over { Choice::Over } else { Choice::None };
        };
        let (before, after) = state.open.split_at(first);
        let is_other = |mailbox: &&Arc<Mailbox>| !refused.iter().any(|known| Arc::ptr_eq(known, mailbox));
        let others = after.iter().chain(before).filter(is_other);
        match others.min_by_key(|mailbox| mailbox.load.get()) {
            Some(other) => Choice::Other(other.clone()),
            None => Choice::Again(after[0].clone()),
        }
    }

    /// Listens for the next change.
    pub(super) fn listen(&self) -> EventListener {
        self.changed.listen()
    }

    /// A timer of the runtime.
    pub(super) fn timer(&self, time: Duration) -> Wait {
        (self.wait)(time)
    }

    /// Lets a call of `bytes` wait until the result is dropped, unless too many wait.
    pub(super) fn enter(&self, bytes: usize) -> Result<Waiting<'_>, Status> {
        let mut state = self.lock();
        if state.waiting >= self.max_waiting || state.waiting_bytes > self.max_waiting_bytes {
            let text = "too many calls wait for a session (rpc::Config::max_waiting)";
            return Err(Status::new(Code::ResourceExhausted, text).with_executed(Executed::No));
        }
        state.waiting += 1;
        state.waiting_bytes += bytes;
        state.add_caller();
        Ok(Waiting { team: self, bytes })
    }

    pub(super) fn add_caller(&self) {
        self.lock().add_caller();
    }

    /// One caller less. The sessions learn of the last one.
    pub(super) fn remove_caller(&self) {
        let mut state = self.lock();
        state.callers -= 1;
        let informed = if state.callers == 0 { state.open.clone() } else { Vec::new() };
        drop(state);
        informed.iter().for_each(|mailbox| mailbox.remove_caller());
    }

    /// Adds a session that has opened.
    fn join(&self, mailbox: &Arc<Mailbox>) {
        let mut state = self.lock();
        state.open.push(mailbox.clone());
        if state.callers > 0 {
            mailbox.add_caller();
        }
        drop(state);
        self.changed.notify(usize::MAX);
    }

    /// Removes a session: it takes no further calls.
    fn leave(&self, mailbox: &Arc<Mailbox>) {
        self.lock().open.retain(|known| !Arc::ptr_eq(known, mailbox));
    }

    /// The reason why no session can open any longer.
    pub(super) fn end(&self) -> Option<Status> {
        self.lock().is_over.then(|| Status::new(Code::Unavailable, "the pool is closed"))
    }

    /// Waits until no session can open any longer.
    pub(super) async fn ended(&self) -> Status {
        loop {
            let changed = self.listen();
            match self.end() {
                Some(end) => return end,
                None => changed.await,
            }
        }
    }
}

impl State {
    fn add_caller(&mut self) {
        self.callers += 1;
        if self.callers == 1 {
            self.open.iter().for_each(|mailbox| mailbox.add_caller());
        }
    }
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Team").field("open", &self.lock().open.len()).finish_non_exhaustive()
    }
}

/// A call that waits for a session to open.
pub(super) struct Waiting<'a> {
    team: &'a Team,
    bytes: usize,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.team.lock();
        state.waiting -= 1;
        state.waiting_bytes -= self.bytes;
        drop(state);
        self.team.remove_caller();
    }
}

/// A source of sessions: the pool, and each listener that it has made. When the last one is gone, no session
/// can open any longer.
pub(crate) struct Source(Arc<Team>);

impl Source {
    pub(super) fn new(team: Arc<Team>) -> Self {
        Source(team)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify(usize::MAX);
    }
}

/// The place of an open session in its team.
pub(crate) struct Membership {
    source: Arc<Source>,
    mailbox: Arc<Mailbox>,
}

impl Membership {
    /// Joins the team, until the result is dropped.
    pub(crate) fn take(source: &Arc<Source>, mailbox: &Arc<Mailbox>) -> Self {
        source.0.join(mailbox);
        Membership { source: source.clone(), mailbox: mailbox.clone() }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.source.0.leave(&self.mailbox);
    }
}
