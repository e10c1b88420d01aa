//! [`Backoff`] and [`Retry`]: when to try a failed address again.

use std::time::Duration;

use crate::time::Timestamp;

/// The wait before a failed address is tried again.
///
/// The wait after the `n`th failure in a row is drawn uniformly between zero and a ceiling. The ceiling
/// starts at `first`, doubles with each failure, and never exceeds `cap`. (AWS's architects call this *full
/// jitter*.) Clients that lost their server at the same moment thus return spread over the whole ceiling.
/// With fixed or only partly random waits they would return in waves as large as the first.
///
/// ```
/// use std::time::Duration;
/// use getty_core::{Backoff, Retry, Timestamp};
///
/// let now = Timestamp::ORIGIN;
/// let mut retry = Retry::new(Backoff::new().max_attempts(2), 4711); // a seed unique to this client
/// assert!(retry.failed(now).unwrap() <= now + Duration::from_millis(100));
/// assert_eq!(retry.failed(now), None); // two attempts are the limit
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    max_attempts: Option<u32>,
    stable_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            first: Duration::from_millis(100),
            cap: Duration::from_secs(30),
            max_attempts: None,
            stable_after: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the longest wait after the first failure. Default 100 ms.
    #[must_use]
    pub fn first(mut self, wait: Duration) -> Self {
        self.first = wait;
        self
    }

    /// Sets the longest wait after any failure. Default 30 s: the return of a server is noticed after at most
    /// that time, and after half of it on average.
    #[must_use]
    pub fn cap(mut self, wait: Duration) -> Self {
        self.cap = wait;
        self
    }

    /// Sets how many attempts in a row may fail before the address is given up, at least 1. `None`, the
    /// default, means no limit. The end of a session counts as a failed attempt too. After a
    /// [stable](Self::stable_after) session it counts as the first, which by itself never gives up the
    /// address.
    #[must_use]
    pub fn max_attempts(mut self, attempts: impl Into<Option<u32>>) -> Self {
        self.max_attempts = attempts.into().map(|attempts: u32| attempts.max(1));
        self
    }

    /// Sets how long a session must have been open for earlier failures to be forgotten. Default 10 s.
    /// Without it, a server that accepts every session and ends it at once would be tried without a pause.
    #[must_use]
    pub fn stable_after(mut self, time: Duration) -> Self {
        self.stable_after = time;
        self
    }

    /// The longest wait after `failures` failures in a row.
    fn ceiling(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(doubled).min(self.cap)
    }
}

/// Counts the failures of one address and decides when to try it again. Time and the seed are arguments, as
/// everywhere in this crate.
#[derive(Debug, Clone)]
pub struct Retry {
    backoff: Backoff,
    /// Failures in a row.
    failures: u32,
    random: SplitMix,
}

impl Retry {
    /// Starts without failures. Clients with the same `seed` draw the same waits, so give each its own.
    pub fn new(backoff: Backoff, seed: u64) -> Self {
        Retry { backoff, failures: 0, random: SplitMix(seed) }
    }

    /// Records a failed attempt. Returns when to make the next one, or `None` once the limit is reached.
    pub fn failed(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.failures = self.failures.saturating_add(1);
        if self.backoff.max_attempts.is_some_and(|max| self.failures >= max) {
            return None;
        }
        Some(now + self.random.up_to(self.backoff.ceiling(self.failures)))
    }

    /// Records the end of a session that was open since `since`. Returns when to make the next attempt. The
    /// end counts as a failure, since the server may have gone away and ended all its sessions at once. If
    /// the session was stable, earlier failures are forgotten, and there is always a next attempt; otherwise
    /// `None` as for [`failed`](Self::failed).
    pub fn ended(&mut self, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        if !self.is_stable(since, now) {
            return self.failed(now);
        }
        self.failures = 1;
        Some(now + self.random.up_to(self.backoff.ceiling(1)))
    }

    /// Whether a session open since `since` has been open for [`Backoff::stable_after`].
    pub fn is_stable(&self, since: Timestamp, now: Timestamp) -> bool {
        now.saturating_duration_since(since) >= self.backoff.stable_after
    }

    /// The number of attempts that failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// Sebastiano Vigna's SplitMix64: eight bytes of state; streams from different seeds are unrelated.
#[derive(Debug, Clone)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Draws a time uniformly between zero and `ceiling`.
    fn up_to(&mut self, ceiling: Duration) -> Duration {
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        let drawn = (u128::from(self.next()) * (u128::from(nanos) + 1)) >> 64;
        Duration::from_nanos(drawn as u64) // below 2^64, as both factors are
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn now() -> Timestamp {
        Timestamp::from_origin(secs(1000))
    }

    /// The longest of many waits after `failures` failures.
    fn longest(backoff: &Backoff, failures: u32) -> Duration {
        let waits = (0..2000).map(|seed| {
            let mut retry = Retry::new(backoff.clone(), seed);
            for _ in 1..failures {
                retry.failed(now());
            }
            retry.failed(now()).unwrap().saturating_duration_since(now())
        });
        waits.max().unwrap()
    }

    #[test]
    fn ceilings_double_up_to_the_cap() {
        let backoff = Backoff::new().first(100 * MS).cap(secs(3));
        for (failures, ceiling) in [(1, 100), (2, 200), (3, 400), (5, 1600), (6, 3000), (100, 3000)] {
            let (longest, ceiling) = (longest(&backoff, failures), ceiling * MS);
            assert!(longest <= ceiling && longest > ceiling * 9 / 10, "{failures} failures: {longest:?}");
        }
    }

    #[test]
    fn the_end_of_a_stable_session_gives_up_nothing() {
        let mut retry = Retry::new(Backoff::new().max_attempts(1), 0);
        let ended = now() + secs(10);
        let next = retry.ended(now(), ended).unwrap();
        assert!(next <= ended + 100 * MS, "a wait as after a first failure");
        assert_eq!(retry.failed(ended), None);
        let mut retry = Retry::new(Backoff::new().max_attempts(1), 0);
        assert_eq!(retry.ended(now(), now() + secs(9)), None, "it was not stable");
    }

    #[test]
    fn waits_are_spread_evenly() {
        let mut tenths = [0; 10];
        for seed in 0..10_000 {
            let mut retry = Retry::new(Backoff::new().first(secs(1)), seed);
            let wait = retry.failed(now()).unwrap().saturating_duration_since(now());
            tenths[(wait.as_millis() as usize / 100).min(9)] += 1;
        }
        assert!(tenths.iter().all(|count| (800..1200).contains(count)), "{tenths:?}");
    }

    #[test]
    fn attempts_are_limited() {
        let mut retry = Retry::new(Backoff::new().max_attempts(3), 1);
        assert!(retry.failed(now()).is_some());
        assert!(retry.failed(now()).is_some());
        assert_eq!(retry.failed(now()), None);
        assert_eq!(retry.failures(), 3);
        let mut never = Retry::new(Backoff::new().max_attempts(0), 1);
        assert_eq!(never.failed(now()), None, "one attempt is made in any case");
    }

    #[test]
    fn only_a_stable_session_is_a_new_beginning() {
        let mut retry = Retry::new(Backoff::new().stable_after(secs(10)), 1);
        for _ in 0..5 {
            retry.failed(now());
        }
        retry.ended(now(), now() + (secs(10) - MS));
        assert_eq!(retry.failures(), 6);
        retry.ended(now(), now() + secs(10));
        assert_eq!(retry.failures(), 1);
    }

    #[test]
    fn no_time_overflows() {
        let backoff = Backoff::new().first(Duration::MAX).cap(Duration::MAX);
        let mut retry = Retry::new(backoff, 1);
        assert!((0..100).all(|_| retry.failed(now()) > Some(now())));
        let mut at_once = Retry::new(Backoff::new().first(Duration::ZERO), 1);
        assert_eq!(at_once.failed(now()), Some(now()));
    }

    const CLIENTS: u64 = 1000;
    const BUCKET: Duration = Duration::from_millis(100);

    /// Simulates a thousand clients whose server is away for a minute. Returns how many return in each tenth
    /// of a second after that, if a client waits for `wait` of its number and its failures.
    fn come_back(mut wait: impl FnMut(u64, u32) -> Duration) -> Vec<usize> {
        let down = secs(60);
        let mut buckets = vec![0; 301];
        for client in 0..CLIENTS {
            let (mut at, mut failures) = (Duration::ZERO, 0);
            while at < down {
                failures += 1;
                at += wait(client, failures).max(Duration::from_micros(100)); // an attempt takes some time
            }
            buckets[((at - down).as_nanos() / BUCKET.as_nanos()) as usize] += 1;
        }
        buckets
    }

    /// Whether no tenth of a second has much more than its share. Spread evenly over the cap of 30 s, each
    /// would have 3.3; waits drawn from zero on make it up to twice that at the beginning.
    fn is_spread(buckets: &[usize]) -> bool {
        let share = CLIENTS as f64 / (secs(30).as_nanos() / BUCKET.as_nanos()) as f64;
        buckets.iter().all(|&count| count as f64 <= 6.0 * share)
    }

    #[test]
    fn a_fleet_does_not_come_back_in_waves() {
        let mut fleet: Vec<Retry> = (0..CLIENTS).map(|seed| Retry::new(Backoff::new(), seed)).collect();
        let buckets = come_back(|client, failures| {
            let retry = &mut fleet[client as usize];
            // All had been connected for an hour when the server went away.
            let next = match failures {
                1 => retry
                    .ended(now(), now() + secs(3600))
                    .map(|at| at.saturating_duration_since(now() + secs(3600))),
                _ => retry.failed(now()).map(|at| at.saturating_duration_since(now())),
            };
            next.unwrap()
        });
        assert_eq!(buckets.iter().sum::<usize>(), CLIENTS as usize, "all are back within the cap");
        assert!(is_spread(&buckets), "{buckets:?}");
    }

    #[test]
    fn without_jitter_it_does() {
        let plain = Backoff::new();
        assert!(!is_spread(&come_back(|_, failures| plain.ceiling(failures))));
        // A tenth of jitter is not enough either.
        let mut random: Vec<SplitMix> = (0..CLIENTS).map(SplitMix).collect();
        assert!(!is_spread(&come_back(|client, failures| {
            let ceiling = plain.ceiling(failures);
            ceiling * 9 / 10 + random[client as usize].up_to(ceiling / 10)
        })));
    }
}
