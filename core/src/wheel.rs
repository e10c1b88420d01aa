//! [`Wheel`]: the deadlines of many peers.

use std::time::Duration;

use crate::config::Config;
use crate::ring::Rings;
use crate::time::Timestamp;

/// The number of slots.
const SLOTS: u64 = 512;

/// Ticks in the shortest period. A deadline is noticed late by at most this fraction of it.
const TICKS_IN_PERIOD: u32 = 64;

/// Deadlines in slots of one tick each, in a circle. Setting and clearing one takes constant time; traffic
/// does neither. A deadline more than a revolution ahead is checked once per revolution.
#[derive(Debug)]
pub(crate) struct Wheel {
    rings: Rings,
    at: Vec<Option<Timestamp>>,
    /// Length of a tick in nanoseconds.
    tick: u64,
    /// The tick up to which all deadlines were checked.
    done: u64,
    /// A lower bound of the next due tick; nothing may be due then either.
    next: Option<u64>,
    armed: usize,
}

impl Wheel {
    pub(crate) fn new(config: &Config, now: Timestamp) -> Self {
        let idle = [config.idle_read(), config.idle_write(), config.idle_both(), config.idle_timeout()];
        let periods = idle.into_iter().chain([config.cron_period()]);
        let shortest = periods.flatten().min().unwrap_or(Duration::from_secs(1));
        // A peer's close may be late too, but by no more than its timeout.
        let tick = (shortest / TICKS_IN_PERIOD).min(config.close_timeout()).max(Duration::from_millis(1));
        let tick = u64::try_from(tick.as_nanos()).unwrap_or(u64::MAX);
        Wheel {
            rings: Rings::new(SLOTS as u32),
            at: Vec::new(),
            tick,
            done: now.as_nanos() / tick,
            next: None,
            armed: 0,
        }
    }

    /// Makes room for numbers below `count`.
    pub(crate) fn grow(&mut self, count: usize) {
        self.rings.grow(count);
        self.at.resize(count, None);
    }

    /// Sets or clears the deadline of `item`.
    pub(crate) fn set(&mut self, item: u32, at: Option<Timestamp>) {
        if std::mem::replace(&mut self.at[item as usize], at).is_some() {
            self.rings.remove(item);
            self.armed -= 1;
        }
        if let Some(at) = at {
            self.armed += 1;
            let tick = at.as_nanos().div_ceil(self.tick).max(self.done + 1);
            self.rings.push((tick % SLOTS) as u32, item);
            self.next = Some(self.next.map_or(tick, |next| next.min(tick)));
        }
        if self.armed == 0 {
            self.next = None;
        }
    }

    /// The time to call [`expire`](Self::expire).
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        self.next.map(|tick| Timestamp::from_nanos(tick.saturating_mul(self.tick)))
    }

    /// Removes the deadlines due by `now` and appends their items to `due`.
    pub(crate) fn expire(&mut self, now: Timestamp, due: &mut Vec<u32>) {
        let target = now.as_nanos() / self.tick;
        let Some(first) = self.next.filter(|&next| next <= target) else { return };
        // One revolution passes every slot.
        for tick in first..=target.min(first + SLOTS - 1) {
            let mut item = self.rings.first((tick % SLOTS) as u32);
            while let Some(current) = item {
                item = self.rings.next(current);
                if self.at[current as usize].is_some_and(|at| at <= now) {
                    self.rings.remove(current);
                    self.at[current as usize] = None;
                    self.armed -= 1;
                    due.push(current);
                }
            }
        }
        self.done = target;
        self.next = (self.armed > 0)
            .then(|| {
                (target + 1..target + 1 + SLOTS)
                    .find(|tick| self.rings.first((tick % SLOTS) as u32).is_some())
            })
            .flatten();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: Duration = Duration::from_secs(1);

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    fn wheel(period: Duration) -> Wheel {
        let config = Config::builder().cron_period(period).build().unwrap();
        let mut wheel = Wheel::new(&config, Timestamp::ORIGIN);
        wheel.grow(1000);
        wheel
    }

    fn due(wheel: &mut Wheel, now: Timestamp) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.expire(now, &mut due);
        due.sort_unstable();
        due
    }

    /// Every deadline is reported at its time or less than a tick later, never before.
    #[test]
    fn deadlines_are_reported_in_time() {
        for period in [Duration::from_millis(1), SEC, SEC * 86_400] {
            let mut wheel = wheel(period);
            let tick = wheel.tick;
            let mut seed = 7u64;
            let mut wanted: Vec<(u64, u32)> = (0..1000)
                .map(|item| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (1 + (seed >> 20) % (2000 * tick), item)
                })
                .collect();
            wanted.iter().for_each(|&(nanos, item)| wheel.set(item, Some(at(nanos))));
            wanted.sort_unstable();
            let mut reported = 0;
            while let Some(next) = wheel.next_at() {
                assert!(due(&mut wheel, at(next.as_nanos() - 1)).is_empty());
                for item in due(&mut wheel, next) {
                    let (nanos, _) = *wanted.iter().find(|(_, wanted)| *wanted == item).unwrap();
                    assert!(nanos <= next.as_nanos() && next.as_nanos() < nanos + tick);
                    reported += 1;
                }
            }
            assert_eq!(reported, 1000);
        }
    }

    #[test]
    fn a_late_look_finds_everything() {
        let mut wheel = wheel(SEC);
        (0..1000).for_each(|item| wheel.set(item, Some(Timestamp::ORIGIN + SEC * (item + 1))));
        assert_eq!(due(&mut wheel, Timestamp::ORIGIN + SEC * 500).len(), 500);
        assert_eq!(due(&mut wheel, Timestamp::ORIGIN + SEC * 1_000_000).len(), 500);
        assert_eq!(wheel.next_at(), None);
    }

    #[test]
    fn cleared_and_moved_deadlines_are_not_reported() {
        let mut wheel = wheel(SEC);
        wheel.set(1, Some(Timestamp::ORIGIN + SEC));
        wheel.set(2, Some(Timestamp::ORIGIN + SEC));
        wheel.set(1, None);
        wheel.set(2, Some(Timestamp::ORIGIN + SEC * 3));
        assert_eq!(due(&mut wheel, Timestamp::ORIGIN + SEC * 2), []);
        assert_eq!(due(&mut wheel, Timestamp::ORIGIN + SEC * 4), [2]);
        wheel.set(1, None);
        assert_eq!(wheel.next_at(), None);
        // A deadline in the past is due with the next tick.
        wheel.set(3, Some(Timestamp::ORIGIN));
        let next = wheel.next_at().unwrap();
        assert!(next > Timestamp::ORIGIN + SEC * 4);
        assert_eq!(due(&mut wheel, next), [3]);
    }
}
