//! [`Endpoint`]: the common state of the sessions of one server or client.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use event_listener::Event;
use getty_core::CloseReason;

use crate::drive::limits::{Counted, ServerLimits, ServerStats, SessionInfo};
use crate::drive::observe;
use crate::drive::slots::{Grace, Members, Place, Role, Slot};
use crate::runtime::io::Timer;
use crate::runtime::{Runtime, clock};

/// Maximum number of tasks woken at once to describe their sessions: a turn of each takes some 10 us.
const LIST_BATCH: usize = 64;

/// Stage in the life of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running,
    /// No new sessions; existing ones are asked to close.
    ShuttingDown,
    /// Sessions end at once.
    Aborting,
}

/// Requests of an endpoint to its tasks, in one word: a [`Phase`], and the number of the last round of
/// questions about their sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Wanted(u32);

impl Wanted {
    const PHASE_BITS: u32 = 2;

    #[inline]
    fn is_running(self) -> bool {
        self.0 & ((1 << Self::PHASE_BITS) - 1) == Phase::Running as u32
    }

    fn phase(self) -> Phase {
        match self.0 & ((1 << Self::PHASE_BITS) - 1) {
            0 => Phase::Running,
            1 => Phase::ShuttingDown,
            _ => Phase::Aborting,
        }
    }

    fn round(self) -> u32 {
        self.0 >> Self::PHASE_BITS
    }
}

/// The common state of the tasks of one endpoint: it can end them, list their sessions, and wait for them.
#[derive(Default)]
pub(crate) struct Endpoint {
    wanted: AtomicU32,
    members: Mutex<Members>,
    /// The last task has left.
    empty: Event,
    /// A task has answered, or left.
    answered: Event,
    /// The last source of sessions has left.
    ended: Event,
}

impl Endpoint {
    /// Makes a task a member of the endpoint until the result is dropped.
    pub(crate) fn join(self: &Arc<Self>, role: Role) -> Member {
        self.insert(&mut self.lock(), role, None)
    }

    /// Makes the session of an accepted connection a member, if the limits allow one more. Sessions that
    /// are not open yet make room for it, the oldest first: silent connections must not keep others out.
    pub(crate) fn admit(
        self: &Arc<Self>,
        limits: &ServerLimits,
        peer: impl FnOnce() -> Option<SocketAddr>,
    ) -> Option<Member> {
        let address = limits.max_sessions_per_address.and_then(|_| peer()).map(|peer| network(peer.ip()));
        let mut members = self.lock();
        members.counted.accepted += 1;
        let of_address = address.and_then(|address| members.by_address.get(&address)).copied().unwrap_or(0);
        // An address at its limit displaces no others.
        if limits.max_sessions_per_address.is_some_and(|max| of_address >= max) {
            members.counted.refused.too_many_of_address += 1;
            drop(members);
            observe::refused("max_sessions_per_address");
            return None;
        }
        let is_full = members.sessions - members.displaced >= limits.max_sessions;
        let mut displaced = None;
        if is_full && members.opening == 0 {
            members.counted.refused.too_many += 1;
            drop(members);
            observe::refused("max_sessions");
            return None;
        } else if is_full || members.opening >= limits.max_opening {
            displaced = members.displace_oldest();
        }
        let member = self.insert(&mut members, Role::Session, address);
        drop(members);
        displaced.into_iter().for_each(Waker::wake);
        Some(member)
    }

    fn insert(self: &Arc<Self>, members: &mut Members, role: Role, address: Option<IpAddr>) -> Member {
        let is_session = role.is_session();
        members.sessions += usize::from(is_session);
        if let Some(address) = address {
            *members.by_address.entry(address).or_default() += 1;
        }
        let joined = self.wanted().round(); // a task that joins after a question is not asked
        let key = members.slots.insert(Slot {
            waker: None,
            role,
            place: Place::None,
            answer: (joined, Vec::new()),
        });
        if is_session {
            members.begin_opening(key);
        }
        Member { endpoint: self.clone(), key, role, opening: is_session, address, joined }
    }

    /// Handles an accept error that does not concern a single connection. If all descriptors are in use,
    /// the oldest session that is not open gives up its own.
    pub(crate) fn accept_failed(&self, error: &io::Error) {
        let mut members = self.lock();
        members.counted.failures += 1;
        let displaced = is_lack_of_descriptors(error).then(|| members.displace_oldest()).flatten();
        drop(members);
        displaced.into_iter().for_each(Waker::wake);
        observe::accept_failed(error);
    }

    /// Enters a later phase and wakes every task, so that each sees it.
    pub(crate) fn enter(&self, phase: Phase) {
        let _ = self.wanted.fetch_update(Ordering::AcqRel, Ordering::Acquire, |wanted| {
            (Wanted(wanted).phase() < phase)
                .then_some(Wanted(wanted).round() << Wanted::PHASE_BITS | phase as u32)
        });
        self.wake_all();
    }

    /// Wakes every task, so that each looks again at what is wanted of it.
    pub(crate) fn wake_all(&self) {
        let wakers: Vec<Waker> =
            self.lock().slots.iter().filter_map(|(_, slot)| slot.waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The number of sessions.
    pub(crate) fn sessions(&self) -> usize {
        self.lock().sessions
    }

    pub(crate) fn stats(&self) -> ServerStats {
        let members = self.lock();
        let Counted { accepted, refused, displaced, failures } = members.counted;
        let (sessions, opening) = (members.sessions, members.opening);
        ServerStats { sessions, opening, accepted, refused, displaced, failures }
    }

    /// Asks every task about its sessions, and waits until each has answered or left. Tasks are woken in
    /// batches, so that others on their threads get turns in between.
    pub(crate) async fn list(&self) -> Vec<SessionInfo> {
        let _listing = Listing::begin(self);
        let one = 1 << Wanted::PHASE_BITS;
        let round = Wanted(self.wanted.fetch_add(one, Ordering::AcqRel).wrapping_add(one)).round();
        let asked = self.lock().asked();
        let mut all = Vec::with_capacity(asked.len());
        for batch in asked.chunks(LIST_BATCH) {
            let wakers = self.lock().wakers(batch);
            wakers.into_iter().for_each(Waker::wake);
            loop {
                let listener = self.answered.listen();
                let is_complete = self.lock().add_answers(batch, round, &mut all);
                if is_complete {
                    break;
                }
                listener.await;
            }
        }
        all
    }

    /// Waits until there can be no more sessions; returns the reason.
    pub(crate) async fn ended(&self) -> CloseReason {
        loop {
            let listener = self.ended.listen();
            let end = self.lock().end.clone();
            match end {
                Some(reason) => return reason,
                None => listener.await,
            }
        }
    }

    /// Waits until no task is left.
    pub(crate) async fn wait_empty(&self) {
        loop {
            let listener = self.empty.listen();
            if self.lock().slots.is_empty() {
                return;
            }
            listener.await;
        }
    }

    /// Asks all tasks to end, waits up to `grace`, then aborts the rest. Returns the number of sessions
    /// that were not over in time. That includes those whose own deadline passes just as the grace ends:
    /// which of the two timers is seen first is chance.
    pub(crate) async fn shut_down<R: Runtime>(&self, grace: Duration) -> usize {
        let ends = clock::after::<R>(grace);
        {
            let mut members = self.lock();
            members.grace = Some(Grace { ends, now: R::now });
            members.late = 0;
        }
        self.enter(Phase::ShuttingDown);
        let mut timer = R::timer(ends);
        let mut empty = pin!(self.wait_empty());
        let in_time = poll_fn(|cx| {
            if empty.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            timer.poll(cx).map(|()| false)
        });
        let in_time = in_time.await;
        let aborted = {
            let mut members = self.lock();
            members.grace = None;
            members.sessions + members.late
        };
        if in_time {
            return aborted;
        }
        self.enter(Phase::Aborting);
        self.wait_empty().await;
        aborted
    }

    pub(crate) fn phase(&self) -> Phase {
        self.wanted().phase()
    }

    fn wanted(&self) -> Wanted {
        Wanted(self.wanted.load(Ordering::Acquire))
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call of `list` in progress. When the last one ends, the answers are dropped.
struct Listing<'a>(&'a Endpoint);

impl<'a> Listing<'a> {
    fn begin(endpoint: &'a Endpoint) -> Self {
        endpoint.lock().listing += 1;
        Listing(endpoint)
    }
}

impl Drop for Listing<'_> {
    fn drop(&mut self) {
        let mut members = self.0.lock();
        members.listing -= 1;
        if members.listing == 0 {
            members.slots.iter_mut().for_each(|(_, slot)| slot.answer.1 = Vec::new());
        }
    }
}

/// `EMFILE`, `ENFILE`, and their Windows equivalent.
fn is_lack_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24 | 10_024))
}

/// The part of an address that per-address limits count: all of IPv4; the /64 of IPv6, which a single host
/// may own.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = self.phase();
        f.debug_struct("Endpoint").field("phase", &phase).field("sessions", &self.sessions()).finish()
    }
}

/// A task's place in its endpoint.
#[derive(Debug)]
pub(crate) struct Member {
    endpoint: Arc<Endpoint>,
    key: usize,
    role: Role,
    /// The session counts among those that are not open yet.
    opening: bool,
    /// The address for which the session counts.
    address: Option<IpAddr>,
    /// The round in which the task joined.
    joined: u32,
}

impl Member {
    pub(crate) fn phase(&self) -> Phase {
        self.endpoint.phase()
    }

    /// Marks the session as open.
    pub(crate) fn open(&mut self) {
        // A session displaced meanwhile still has to see that.
        self.opening = self.opening && !self.endpoint.lock().end_opening(self.key);
    }

    /// Whether a newer session has displaced this one.
    #[inline]
    fn is_displaced(&self) -> bool {
        self.opening && self.has_lost_its_place()
    }

    #[cold]
    fn has_lost_its_place(&self) -> bool {
        self.endpoint.lock().slots[self.key].place == Place::Displaced
    }

    /// Registers a waker for requests. Returns whether the session was already displaced.
    pub(crate) fn register(&self, waker: &Waker) -> bool {
        let mut members = self.endpoint.lock();
        let slot = &mut members.slots[self.key];
        let before = slot.waker.replace(waker.clone());
        let is_displaced = slot.place == Place::Displaced;
        drop(members);
        drop(before);
        is_displaced
    }

    fn answer(&self, round: u32, infos: Vec<SessionInfo>) {
        let mut members = self.endpoint.lock();
        // The list may have been abandoned meanwhile: then nothing would clear the answer again.
        let infos = if members.listing > 0 { infos } else { Vec::new() };
        let before = std::mem::replace(&mut members.slots[self.key].answer, (round, infos));
        drop(members);
        drop(before);
        self.endpoint.answered.notify(usize::MAX);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut members = self.endpoint.lock();
        members.end_opening(self.key);
        let slot = members.slots.remove(self.key);
        members.sessions -= usize::from(self.role.is_session());
        members.displaced -= usize::from(slot.place == Place::Displaced);
        let is_late = members.grace.as_ref().is_some_and(|grace| (grace.now)() >= grace.ends);
        members.late += usize::from(is_late && self.role.is_session());
        if let Some(address) = self.address {
            if let Some(sessions) = members.by_address.get_mut(&address) {
                *sessions -= 1;
                if *sessions == 0 {
                    members.by_address.remove(&address);
                }
            }
        }
        let is_empty = members.slots.is_empty();
        let is_end = self.role.is_source();
        if is_end && members.end.is_none() {
            members.end = Some(CloseReason::Local { flushed: false });
        }
        drop(members);
        drop(slot);
        if is_end {
            self.endpoint.ended.notify(usize::MAX);
        }
        self.endpoint.answered.notify(usize::MAX);
        if is_empty {
            self.endpoint.empty.notify(usize::MAX);
        }
    }
}

/// A task's place in its endpoint, if it has one, and the last state that it saw there.
pub(crate) struct Membership {
    member: Option<Member>,
    seen: Wanted,
    /// The last round that the task has answered.
    answered: u32,
    /// The waker registered with the endpoint.
    waker: Option<Waker>,
    /// This task ends as if the endpoint were shutting down.
    drains: bool,
}

impl Membership {
    pub(crate) fn none() -> Self {
        Membership { member: None, seen: Wanted::default(), answered: 0, waker: None, drains: false }
    }

    pub(crate) fn set(&mut self, member: Member) {
        self.answered = member.joined;
        self.member = Some(member);
    }

    /// The phase of the endpoint, which counts as seen from now on. Each turn begins with a check: a request
    /// that comes after the last one wakes the task again.
    #[inline]
    pub(crate) fn check(&mut self) -> Phase {
        self.seen = self.member.as_ref().map_or(Wanted::default(), |member| member.endpoint.wanted());
        self.phase()
    }

    fn phase(&self) -> Phase {
        self.seen.phase().max(if self.drains { Phase::ShuttingDown } else { Phase::Running })
    }

    /// Ends this task as a shutdown of the endpoint does, at its next turn.
    pub(crate) fn drain(&mut self) {
        self.drains = true;
    }

    /// Whether the endpoint requested nothing when it was last checked.
    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        self.seen.is_running() && !self.drains
    }

    /// Whether there is a request to follow, as far as is known since the last check.
    #[inline]
    pub(crate) fn has_request(&self) -> bool {
        !self.is_running() || self.is_displaced()
    }

    /// Marks the session as open.
    pub(crate) fn open(&mut self) {
        if let Some(member) = &mut self.member {
            member.open();
        }
    }

    /// Whether a newer session has displaced this one, which is not open.
    #[inline]
    pub(crate) fn is_displaced(&self) -> bool {
        self.member.as_ref().is_some_and(Member::is_displaced)
    }

    /// Records the reason why the task is done. Reported once it has left.
    pub(crate) fn end(&self, reason: &CloseReason) {
        if let Some(member) = self.member.as_ref().filter(|member| member.role.is_source()) {
            member.endpoint.lock().end = Some(reason.clone());
        }
    }

    /// The waker of the task, once it has been polled.
    pub(crate) fn waker(&self) -> Option<&Waker> {
        self.waker.as_ref()
    }

    /// Answers the endpoint if it asks, and registers `waker` for its requests.
    pub(crate) fn end_turn(&mut self, waker: &Waker, infos: impl FnOnce() -> Vec<SessionInfo>) {
        let round = self.seen.round();
        if let Some(member) = self.member.as_ref().filter(|_| round != self.answered) {
            self.answered = round;
            member.answer(round, infos());
        }
        if self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return;
        }
        self.waker = Some(waker.clone());
        if let Some(member) = &self.member {
            let is_displaced = member.register(waker);
            if is_displaced || member.endpoint.wanted() != self.seen {
                waker.wake_by_ref();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::{Context, Wake};
    use std::time::Instant;

    use getty_core::Stats;

    use super::*;
    use crate::session::id::SessionId;

    /// The woken tasks, in order.
    #[derive(Default)]
    struct Woken(Mutex<VecDeque<usize>>);

    struct TaskWaker(usize, Arc<Woken>);

    impl Wake for TaskWaker {
        fn wake(self: Arc<Self>) {
            self.1.0.lock().unwrap().push_back(self.0);
        }
    }

    fn info(number: usize) -> SessionInfo {
        let now = Instant::now();
        SessionInfo {
            id: SessionId::next(),
            local: None,
            peer: Some(SocketAddr::from(([127, 0, 0, 1], number as u16))),
            is_open: true,
            since: now,
            last_active: now,
            stats: Stats::default(),
        }
    }

    #[test]
    fn an_answer_to_a_list_that_was_given_up_is_not_kept() {
        let endpoint = Arc::<Endpoint>::default();
        let mut membership = Membership::none();
        membership.set(endpoint.join(Role::Session));
        for is_given_up in [false, true] {
            let mut list = Box::pin(endpoint.list());
            assert!(list.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let list = Some(list).filter(|_| !is_given_up);
            membership.check();
            membership.end_turn(Waker::noop(), || vec![info(1)]);
            let kept: usize = endpoint.lock().slots.iter().map(|(_, slot)| slot.answer.1.len()).sum();
            assert_eq!(kept, usize::from(list.is_some()));
        }
    }

    #[test]
    fn sessions_are_asked_a_few_at_a_time() {
        const TASKS: usize = 10 * LIST_BATCH + 1;
        let (endpoint, woken) = (Arc::<Endpoint>::default(), Arc::<Woken>::default());
        let waker = |number| Waker::from(Arc::new(TaskWaker(number, woken.clone())));
        let mut tasks: Vec<Option<Membership>> = (0..TASKS)
            .map(|number| {
                let mut membership = Membership::none();
                membership.set(endpoint.join(Role::Session));
                membership.check();
                membership.end_turn(&waker(number), Vec::new);
                Some(membership)
            })
            .collect();
        let mut list = pin!(endpoint.list());
        let (mut turns, mut peak) = (0, 0);
        let all = loop {
            if let Poll::Ready(all) = list.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                break all;
            }
            peak = peak.max(woken.0.lock().unwrap().len());
            assert!(turns < TASKS, "all have answered");
            let number = woken.0.lock().unwrap().pop_front().expect("a task is asked");
            let task = &mut tasks[number];
            turns += 1;
            if number % 100 == 99 {
                *task = None; // over: another one takes its place
                tasks.push(None);
                let mut other = Membership::none();
                other.set(endpoint.join(Role::Session));
                *tasks.last_mut().unwrap() = Some(other);
            } else if let Some(membership) = task {
                membership.check();
                membership.end_turn(&waker(number), || vec![info(number)]);
            }
        };
        assert!(peak <= LIST_BATCH, "{peak} were woken at once");
        let mut ports: Vec<usize> = all.iter().map(|info| usize::from(info.peer.unwrap().port())).collect();
        ports.sort_unstable();
        let expected: Vec<usize> = (0..TASKS).filter(|number| number % 100 != 99).collect();
        assert!(ports == expected, "each is listed once: {ports:?}");
    }
}
