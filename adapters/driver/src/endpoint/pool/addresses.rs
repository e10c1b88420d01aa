//! [`Addresses`]: the choice of the address to connect to next.

use std::cmp::Reverse;
use std::mem;
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(feature = "websocket")]
use getty_core::websocket::ClientRequest;
use getty_core::{Backoff, Retry, Timestamp};

use super::stats::AddressStats;
#[cfg(feature = "websocket")]
use crate::endpoint::websocket;
use crate::runtime::clock;
#[cfg(unix)]
use crate::socket::unix;

/// An address that a pool can connect to. It appears only in bounds.
pub trait Target: Clone + PartialEq {
    /// Its name in statistics and errors.
    fn name(&self) -> String;
}

impl Target for String {
    fn name(&self) -> String {
        self.clone()
    }
}

#[cfg(unix)]
impl Target for PathBuf {
    fn name(&self) -> String {
        unix::shown(self)
    }
}

#[cfg(feature = "websocket")]
impl Target for ClientRequest {
    fn name(&self) -> String {
        websocket::host_and_port(self)
    }
}

/// The addresses of a pool, and the state of each. Independent of sockets, tasks and clocks.
///
/// All sessions to one address share its state; otherwise each of them would try a server that is down. While
/// it is unknown whether an address works again, one attempt is made at a time. An attempt that began before
/// the last failure proves nothing new when it fails too: a server that goes away with ten sessions has
/// failed once, not ten times.
pub(super) struct Addresses<A> {
    all: Vec<Address<A>>,
    /// The index at which the search begins. Random at first, so that not all clients of a fleet go to the
    /// first address.
    next: usize,
    backoff: Backoff,
    seed: u64,
    /// The number of addresses ever added.
    made: u64,
    /// The number of sessions that are ending because their address was removed or has more than its share.
    draining: usize,
}

struct Address<A> {
    id: u64,
    target: A,
    retry: Retry,
    /// Its attempts and the sessions that they became, oldest first.
    sessions: Vec<Tracked>,
    /// No session has opened since the last failure.
    doubtful: bool,
    rests: Rest,
    /// When the first session since the last failure opened.
    good_since: Option<Timestamp>,
    /// The number of failures. It shows which attempts began before the last one.
    generation: u64,
    last_error: Option<String>,
    /// The address was removed. It is kept until its attempts and sessions have left.
    is_gone: bool,
}

/// An attempt or a session, as its address sees it.
struct Tracked {
    stage: Stage,
    /// Shared with its [`Attempt`].
    leaves: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Handshakes included.
    Connecting,
    Open,
    Closing,
}

impl Tracked {
    fn leaves(&self) -> bool {
        self.leaves.load(Ordering::Relaxed)
    }

    fn leave(&self) {
        self.leaves.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    No,
    Until(Timestamp),
    /// Given up after too many failures.
    ForGood,
}

/// An attempt to connect, and the session that it became.
#[derive(Debug)]
pub(super) struct Attempt<A> {
    pub(super) address: u64,
    pub(super) target: A,
    generation: u64,
    open_since: Option<Timestamp>,
    /// Set when this one has to leave: the address was removed, or has more than its share.
    leaves: Arc<AtomicBool>,
}

impl<A> Attempt<A> {
    /// Whether the attempt has to be abandoned, or its session drained.
    pub(super) fn has_to_leave(&self) -> bool {
        self.leaves.load(Ordering::Relaxed)
    }

    /// The flag that is set when this one has to leave.
    pub(super) fn leaves(&self) -> Arc<AtomicBool> {
        self.leaves.clone()
    }
}

/// The next action of a task.
#[derive(Debug)]
pub(super) enum Choice<A> {
    Connect(Attempt<A>),
    /// Do nothing until then, or until something else changes.
    Wait(Option<Timestamp>),
}

impl<A: Target> Addresses<A> {
    pub(super) fn new(targets: Vec<A>, backoff: &Backoff, seed: u64) -> Self {
        let next = (seed % targets.len().max(1) as u64) as usize;
        let (all, backoff) = (Vec::new(), backoff.clone());
        let mut addresses = Addresses { all, next, backoff, seed, made: 0, draining: 0 };
        addresses.set(targets);
        addresses
    }

    /// Replaces the addresses. One that stays keeps its state; the attempts and sessions of a removed one
    /// have to leave. Returns whether there is a new one.
    pub(super) fn set(&mut self, targets: Vec<A>) -> bool {
        let mut before = mem::take(&mut self.all);
        let mut is_new = false;
        for target in targets {
            if self.all.iter().any(|address| address.target == target) {
                continue; // given twice
            }
            let known = before.iter().position(|address| !address.is_gone && address.target == target);
            let address = match known {
                Some(place) => before.remove(place),
                None => {
                    is_new = true;
                    self.make(target)
                }
            };
            self.all.push(address);
        }
        for mut address in before.into_iter().filter(|address| !address.sessions.is_empty()) {
            address.is_gone = true;
            address.sessions.iter().for_each(Tracked::leave);
            self.all.push(address);
        }
        is_new
    }

    /// Makes those leave that addresses have beyond an even share of `sessions`: attempts rather than open
    /// sessions, and the latest first. What is closing makes room by itself.
    pub(super) fn spread(&self, sessions: usize) {
        let mut addresses: Vec<_> = self.current().collect();
        let n = addresses.len().max(1);
        // With more addresses than sessions, none has to give up its only one.
        let (share, mut one_more) = if sessions < n { (1, 0) } else { (sessions / n, sessions % n) };
        // Where they do not divide evenly, addresses with many open sessions keep one more.
        addresses.sort_by_key(|address| Reverse(address.staying(Stage::Open).count()));
        for address in addresses {
            let staying = || address.staying(Stage::Open).chain(address.staying(Stage::Connecting));
            let keeps_one_more = one_more > 0 && staying().count() > share;
            one_more -= usize::from(keeps_one_more);
            staying().skip(share + usize::from(keeps_one_more)).for_each(Tracked::leave);
        }
    }

    fn make(&mut self, target: A) -> Address<A> {
        let id = self.made;
        self.made += 1;
        Address {
            id,
            target,
            retry: Retry::new(self.backoff.clone(), self.seed.rotate_left(id as u32).wrapping_add(id)),
            sessions: Vec::new(),
            doubtful: false,
            rests: Rest::No,
            good_since: None,
            generation: 0,
            last_error: None,
            is_gone: false,
        }
    }

    /// The current addresses of the pool.
    fn current(&self) -> impl Iterator<Item = &Address<A>> {
        self.all.iter().filter(|address| !address.is_gone)
    }

    /// Chooses the address with the fewest sessions among those that may be tried.
    pub(super) fn choose(&mut self, now: Timestamp) -> Choice<A> {
        let n = self.all.len();
        let in_turn = (0..n).map(|i| (self.next + i) % n);
        let least = in_turn.filter(|&i| self.all[i].is_due(now)).min_by_key(|&i| self.all[i].load());
        let Some(place) = least else {
            return Choice::Wait(self.current().filter_map(|address| address.next_attempt(now)).min());
        };
        self.next = (place + 1) % n;
        let chosen = &mut self.all[place];
        chosen.rests = Rest::No;
        let leaves = Arc::<AtomicBool>::default();
        chosen.sessions.push(Tracked { stage: Stage::Connecting, leaves: leaves.clone() });
        Choice::Connect(Attempt {
            address: chosen.id,
            target: chosen.target.clone(),
            generation: chosen.generation,
            open_since: None,
            leaves,
        })
    }

    /// The address of an attempt. It is kept while it has attempts or sessions.
    fn of(&mut self, attempt: &Attempt<A>) -> Option<&mut Address<A>> {
        self.all.iter_mut().find(|address| address.id == attempt.address)
    }

    /// Records that the session of an attempt has opened.
    pub(super) fn opened(&mut self, attempt: &mut Attempt<A>, now: Timestamp) {
        let Some(address) = self.of(attempt) else { return };
        address.set_stage(attempt, Stage::Open);
        attempt.open_since = Some(now);
        attempt.generation = address.generation;
        address.doubtful = false;
        if address.rests != Rest::ForGood {
            address.rests = Rest::No;
        }
        address.good_since.get_or_insert(now);
    }

    /// Records that the session of an attempt takes nothing any longer.
    pub(super) fn closes(&mut self, attempt: &Attempt<A>) {
        if let Some(address) = self.of(attempt) {
            address.set_stage(attempt, Stage::Closing);
        }
    }

    /// Records that an attempt failed, or that its session ended.
    pub(super) fn over(&mut self, attempt: &Attempt<A>, now: Timestamp, error: String) {
        self.left(attempt);
        let Some(address) = self.of(attempt) else { return };
        address.last_error = Some(error);
        let next = match attempt.open_since {
            // The address was given up while this session went on: it does work.
            Some(since) if address.rests == Rest::ForGood && address.retry.is_stable(since, now) => {
                address.retry.ended(since, now)
            }
            _ if attempt.generation != address.generation => return,
            _ => match address.good_since.or(attempt.open_since) {
                Some(since) => address.retry.ended(since, now),
                None => address.retry.failed(now),
            },
        };
        address.generation += 1;
        address.good_since = None;
        address.doubtful = true;
        address.rests = next.map_or(Rest::ForGood, Rest::Until);
    }

    /// Records that an attempt or a session was abandoned, which says nothing about its address.
    pub(super) fn left(&mut self, attempt: &Attempt<A>) {
        let Some(address) = self.of(attempt) else { return };
        address.sessions.retain(|tracked| !Arc::ptr_eq(&tracked.leaves, &attempt.leaves));
        self.all.retain(|address| !address.is_gone || !address.sessions.is_empty());
    }

    /// Records that the session of an attempt leaves. Until it has ended, another one is made beside it.
    pub(super) fn drains(&mut self, attempt: &Attempt<A>) {
        self.left(attempt);
        self.draining += 1;
    }

    /// Records that a session that had to leave has ended.
    pub(super) fn drained(&mut self) {
        self.draining -= 1;
    }

    pub(super) fn draining(&self) -> usize {
        self.draining
    }

    pub(super) fn open(&self) -> usize {
        self.all.iter().map(Address::open).sum()
    }

    pub(super) fn connecting(&self) -> usize {
        self.all.iter().map(Address::connecting).sum()
    }

    /// Whether there is no session and none will open.
    pub(super) fn are_given_up(&self) -> bool {
        let given_up = |address: &Address<A>| address.rests == Rest::ForGood && address.load() == 0;
        !self.all.is_empty() && self.all.iter().all(given_up)
    }

    pub(super) fn stats(&self, now: Timestamp) -> Vec<AddressStats> {
        let one = |address: &Address<A>| AddressStats {
            address: address.target.name(),
            open: address.open(),
            connecting: address.connecting(),
            failures: address.retry.failures(),
            last_error: address.last_error.clone(),
            rests_until: address.next_attempt(now).map(clock::instant),
            is_given_up: address.rests == Rest::ForGood,
        };
        self.current().map(one).collect()
    }
}

impl<A> Address<A> {
    /// Its attempts and sessions, without those that leave.
    fn load(&self) -> usize {
        self.sessions.iter().filter(|tracked| !tracked.leaves()).count()
    }

    /// Those of a stage that do not leave.
    fn staying(&self, stage: Stage) -> impl Iterator<Item = &Tracked> {
        self.sessions.iter().filter(move |tracked| tracked.stage == stage && !tracked.leaves())
    }

    /// Sessions that are open, or closing.
    fn open(&self) -> usize {
        self.sessions.len() - self.connecting()
    }

    /// Attempts under way.
    fn connecting(&self) -> usize {
        self.sessions.iter().filter(|tracked| tracked.stage == Stage::Connecting).count()
    }

    fn set_stage(&mut self, attempt: &Attempt<A>, stage: Stage) {
        let mut sessions = self.sessions.iter_mut();
        if let Some(tracked) = sessions.find(|tracked| Arc::ptr_eq(&tracked.leaves, &attempt.leaves)) {
            tracked.stage = stage;
        }
    }

    /// Whether it may be connected to now.
    fn is_due(&self, now: Timestamp) -> bool {
        let rested = match self.rests {
            Rest::No => true,
            Rest::Until(at) => at <= now,
            Rest::ForGood => false,
        };
        rested && !self.is_gone && !(self.doubtful && self.connecting() > 0)
    }

    /// When its rest ends, if it is resting.
    fn next_attempt(&self, now: Timestamp) -> Option<Timestamp> {
        match self.rests {
            Rest::Until(at) if at > now => Some(at),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn now() -> Timestamp {
        Timestamp::from_origin(Duration::from_secs(1000))
    }

    fn addresses(names: &[&str], backoff: &Backoff) -> Addresses<String> {
        Addresses::new(names.iter().map(|name| (*name).to_owned()).collect(), backoff, 0)
    }

    #[track_caller]
    fn connect(addresses: &mut Addresses<String>, now: Timestamp) -> Attempt<String> {
        match addresses.choose(now) {
            Choice::Connect(attempt) => attempt,
            Choice::Wait(until) => panic!("expected an attempt, found a wait until {until:?}"),
        }
    }

    #[track_caller]
    fn wait(addresses: &mut Addresses<String>, now: Timestamp) -> Option<Timestamp> {
        match addresses.choose(now) {
            Choice::Wait(until) => until,
            Choice::Connect(attempt) => panic!("expected a wait, found {attempt:?}"),
        }
    }

    #[test]
    fn sessions_are_spread() {
        let mut three = addresses(&["a", "b", "c"], &Backoff::new());
        let attempts: Vec<_> = (0..6).map(|_| connect(&mut three, now())).collect();
        let mut counts = [0; 3];
        attempts.iter().for_each(|attempt| counts[attempt.address as usize] += 1);
        assert_eq!(counts, [2, 2, 2]);
    }

    /// Replaces the addresses; gives up what has to leave, and returns how many that were.
    fn set(
        addresses: &mut Addresses<String>,
        names: &[&str],
        sessions: usize,
        all: &mut Vec<Attempt<String>>,
    ) -> usize {
        if addresses.set(names.iter().map(|name| (*name).to_owned()).collect()) {
            addresses.spread(sessions);
        }
        let before = all.len();
        all.iter().filter(|attempt| attempt.has_to_leave()).for_each(|attempt| addresses.left(attempt));
        all.retain(|attempt| !attempt.has_to_leave());
        before - all.len()
    }

    fn loads(addresses: &Addresses<String>) -> Vec<usize> {
        addresses.stats(now()).iter().map(|stats| stats.open + stats.connecting).collect()
    }

    #[test]
    fn a_new_address_gets_its_share_of_sessions_and_attempts_and_no_more_move() {
        const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
        let changes = || (1..6).flat_map(|before| (before + 1..=6).map(move |after| (before, after)));
        for (sessions, open) in (1..=9).flat_map(|n| (0..=n).map(move |open| (n, open))) {
            for (before, after) in changes() {
                let case = format!("{sessions} sessions, {open} open, {before} to {after} addresses");
                let mut some = addresses(&NAMES[..before], &Backoff::new());
                let mut all: Vec<_> = (0..sessions).map(|_| connect(&mut some, now())).collect();
                all[..open].iter_mut().for_each(|attempt| some.opened(attempt, now()));
                let moved = set(&mut some, &NAMES[..after], sessions, &mut all);
                let kept = loads(&some);
                assert_eq!(kept.iter().sum::<usize>() + moved, sessions, "{case}");
                all.extend((0..moved).map(|_| connect(&mut some, now())));
                let loads = loads(&some);
                assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{case}: {loads:?}");
                assert_eq!(loads[..before], kept[..before], "{case}");
                assert_eq!(set(&mut some, &NAMES[..after], sessions, &mut all), 0, "{case}");
            }
        }
    }

    #[test]
    fn the_latest_attempts_leave_first_and_open_sessions_last() {
        let mut one = addresses(&["a"], &Backoff::new());
        let mut all: Vec<_> = (0..6).map(|_| connect(&mut one, now())).collect();
        let addresses: Vec<_> = all.iter().map(|attempt| attempt.leaves()).collect();
        let leave = || -> Vec<_> { addresses.iter().map(|leaves| leaves.load(Ordering::Relaxed)).collect() };
        [1, 5].into_iter().for_each(|i| one.opened(&mut all[i], now()));
        set(&mut one, &["a", "b"], 6, &mut all);
        assert_eq!(leave(), [false, false, true, true, true, false]);
        set(&mut one, &["a", "b", "c"], 6, &mut all);
        assert_eq!(leave(), [true, false, true, true, true, false]);
        set(&mut one, &["a", "b", "c", "d", "e", "f"], 6, &mut all);
        assert_eq!(leave(), [true, false, true, true, true, true]);
        set(&mut one, &["b"], 6, &mut all);
        assert_eq!(leave(), [true; 6]);
    }

    #[test]
    fn sessions_that_close_make_room_by_themselves() {
        let mut one = addresses(&["a"], &Backoff::new());
        let mut all: Vec<_> = (0..4).map(|_| connect(&mut one, now())).collect();
        all.iter_mut().for_each(|attempt| one.opened(attempt, now()));
        all[..2].iter().for_each(|attempt| one.closes(attempt));
        assert_eq!(set(&mut one, &["a", "b"], 4, &mut all), 0);
        all[..2].iter().for_each(|attempt| one.over(attempt, now(), "closed".to_owned()));
        let next = [connect(&mut one, now()), connect(&mut one, now())];
        assert_eq!(next.map(|attempt| attempt.address), [1; 2]);
    }

    #[test]
    fn an_address_that_comes_back_is_a_new_one() {
        let mut one = addresses(&["a"], &Backoff::new());
        let old = connect(&mut one, now());
        one.over(&old, now(), "refused".to_owned());
        let old = [connect(&mut one, now() + Duration::from_secs(60))];
        one.set(Vec::new());
        assert_eq!(wait(&mut one, now()), None);
        one.set(vec!["a".to_owned(); 2]);
        assert!(old[0].has_to_leave());
        let new = connect(&mut one, now());
        assert!(!new.has_to_leave());
        assert_eq!((loads(&one), one.connecting()), (vec![1], 2), "the old one is there until it has left");
        one.over(&old[0], now(), "refused".to_owned());
        assert_eq!((loads(&one), one.connecting(), one.stats(now())[0].failures), (vec![1], 1, 0));
    }

    #[test]
    fn another_address_is_used_while_one_rests() {
        let mut two = addresses(&["dead", "good"], &Backoff::new());
        let failed = connect(&mut two, now());
        two.over(&failed, now(), "refused".to_owned());
        let other = [connect(&mut two, now()), connect(&mut two, now())].map(|attempt| attempt.address);
        assert_eq!(other, [1 - failed.address; 2]);
    }

    #[test]
    fn sessions_that_end_together_are_one_failure() {
        let mut one = addresses(&["a"], &Backoff::new());
        let mut sessions: Vec<_> = (0..10).map(|_| connect(&mut one, now())).collect();
        sessions.iter_mut().for_each(|attempt| one.opened(attempt, now()));
        sessions.iter().for_each(|attempt| one.over(attempt, now() + MS, "closed".to_owned()));
        assert_eq!(one.stats(now())[0].failures, 1);
        assert_eq!((one.open(), one.connecting()), (0, 0));
    }

    #[test]
    fn an_address_in_doubt_is_tried_by_one_at_a_time() {
        let mut one = addresses(&["a"], &Backoff::new());
        let failed = connect(&mut one, now());
        one.over(&failed, now(), "refused".to_owned());
        let later = wait(&mut one, now()).unwrap();
        let mut probe = connect(&mut one, later);
        assert_eq!(wait(&mut one, later), None, "the others wait for its outcome");
        one.opened(&mut probe, later);
        connect(&mut one, later);
        connect(&mut one, later);
    }

    #[test]
    fn an_address_is_given_up_and_a_stable_session_brings_it_back() {
        let backoff = Backoff::new().max_attempts(2);
        let mut one = addresses(&["a"], &backoff);
        let mut session = connect(&mut one, now());
        one.opened(&mut session, now());
        let hour = now() + Duration::from_secs(3600);
        let mut at = hour;
        for _ in 0..2 {
            let failed = connect(&mut one, at);
            one.over(&failed, at, "refused".to_owned());
            at += Duration::from_secs(60);
        }
        assert_eq!(wait(&mut one, at), None);
        assert!(one.stats(at)[0].is_given_up && !one.are_given_up(), "a session is still open");
        one.over(&session, at, "closed".to_owned());
        assert!(!one.stats(at)[0].is_given_up);
        let again = connect(&mut one, at + Duration::from_secs(60));
        one.over(&again, at, "refused".to_owned());
        assert!(one.are_given_up());
    }

    #[test]
    fn an_address_that_ends_every_session_at_once_is_tried_less_and_less() {
        let mut one = addresses(&["a"], &Backoff::new());
        let mut at = now();
        for failures in 1..8 {
            let mut sessions = vec![connect(&mut one, at)];
            one.opened(&mut sessions[0], at);
            sessions.extend((0..3).map(|_| connect(&mut one, at)));
            sessions[1..].iter_mut().for_each(|attempt| one.opened(attempt, at));
            sessions.iter().for_each(|attempt| one.over(attempt, at + MS, "closed".to_owned()));
            assert_eq!(one.stats(at)[0].failures, failures);
            at += Duration::from_secs(30);
        }
    }

    #[test]
    fn a_failure_beside_a_stable_session_is_the_first() {
        let mut one = addresses(&["a"], &Backoff::new());
        for _ in 0..5 {
            let failed = connect(&mut one, now() + Duration::from_secs(60));
            one.over(&failed, now(), "refused".to_owned());
        }
        let mut session = connect(&mut one, now() + Duration::from_secs(60));
        one.opened(&mut session, now() + Duration::from_secs(60));
        let hour = now() + Duration::from_secs(3600);
        let failed = connect(&mut one, hour);
        one.over(&failed, hour, "refused".to_owned());
        assert_eq!(one.stats(hour)[0].failures, 1);
    }
}
