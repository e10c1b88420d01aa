//! [`Wheel`]: the deadlines of many peers or calls.

use std::time::Duration;

use crate::ring::Rings;
use crate::time::Timestamp;

/// Levels of slots. Each takes 512 bytes; three reach 262 144 ticks.
const LEVELS: usize = 3;

/// The number of slots in a level: the bits of a word.
const SLOTS: u64 = 64;

/// The list of the deadlines that are being moved to other slots.
const MOVING: u32 = LEVELS as u32 * SLOTS as u32;

/// Deadlines in slots. A slot of the first level is one tick long, a slot of each further level as long as
/// all slots of the level before. A deadline waits in the first level that reaches it; when the time of its
/// slot begins, it moves to a finer one. A deadline that no level reaches waits in the
/// last slot, and moves to the last slot again until one does.
///
/// Setting and clearing one takes constant time; traffic does neither. A deadline is reported less than a
/// tick late, and never early. Time up to now is checked in at most [`SLOTS`] slots of each level, no matter
/// how long it was.
#[derive(Debug)]
pub(crate) struct Wheel {
    rings: Rings,
    at: Vec<Option<Timestamp>>,
    /// The slots of each level that hold deadlines, as bits.
    filled: [u64; LEVELS],
    /// Length of a tick in nanoseconds.
    tick: u64,
    /// The tick up to which all deadlines were checked. Each level holds the `SLOTS` slots after it.
    done: u64,
    /// A lower bound of the next due tick; nothing may be due then either.
    next: Option<u64>,
}

impl Wheel {
    pub(crate) fn new(tick: Duration, now: Timestamp) -> Self {
        let tick = u64::try_from(tick.as_nanos()).unwrap_or(u64::MAX).max(1);
        Wheel {
            rings: Rings::new(MOVING + 1),
            at: Vec::new(),
            filled: [0; LEVELS],
            tick,
            done: now.as_nanos() / tick,
            next: None,
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
            if let Some(list) = self.rings.remove(item) {
                self.filled[list as usize / SLOTS as usize] &= !(1 << (u64::from(list) % SLOTS));
            }
        }
        if let Some(at) = at {
            // The slot may begin earlier, but need not be visited before its first deadline.
            let tick = self.place(item, at);
            self.next = Some(self.next.map_or(tick, |next| next.min(tick)));
        }
        if self.filled == [0; LEVELS] {
            self.next = None;
        }
    }

    /// Puts `item` in the slot for its deadline, and returns the tick of the deadline.
    fn place(&mut self, item: u32, at: Timestamp) -> u64 {
        let tick = at.as_nanos().div_ceil(self.tick).max(self.done + 1);
        let last = LEVELS - 1;
        let level = (0..last).find(|&level| slot_at(tick, level) - slot_at(self.done, level) <= SLOTS);
        let level = level.unwrap_or(last);
        let slot = slot_at(tick, level).min(slot_at(self.done, level).saturating_add(SLOTS)) % SLOTS;
        self.rings.push(list(level, slot), item);
        self.filled[level] |= 1 << slot;
        tick
    }

    /// The time to call [`expire`](Self::expire): not after the first deadline's tick. Setting a deadline
    /// makes it earlier if need be. `None` if no deadline is set, or only such that lie beyond all time.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        let nanos = self.next?.checked_mul(self.tick)?;
        // The last instant stands for all later ones.
        (nanos < u64::MAX).then(|| Timestamp::from_nanos(nanos))
    }

    /// Removes the deadlines due by `now` and appends their items to `due`, in no particular order.
    /// Afterwards [`next_at`](Self::next_at) is later than `now`.
    pub(crate) fn expire(&mut self, now: Timestamp, due: &mut Vec<u32>) {
        let target = now.as_nanos() / self.tick;
        if self.next.is_some_and(|next| next > target) {
            return;
        }
        let done = self.done;
        self.done = done.max(target);
        // Finer levels first: what comes from a coarser one then lies after the slots visited.
        for level in 0..LEVELS {
            let first = slot_at(done, level) + 1;
            let count = slot_at(self.done, level) + 1 - first;
            if count == 0 {
                break;
            }
            let passed = (u64::MAX >> (SLOTS - count.min(SLOTS))).rotate_left((first % SLOTS) as u32);
            let mut slots = self.filled[level] & passed;
            self.filled[level] &= !passed;
            while slots != 0 {
                self.empty(list(level, u64::from(slots.trailing_zeros())), now, due);
                slots &= slots - 1;
            }
        }
        self.next = (0..LEVELS).filter_map(|level| self.first_slot(level)).min();
    }

    /// Takes the deadlines out of a list. Those not due go to other slots.
    fn empty(&mut self, list: u32, now: Timestamp, due: &mut Vec<u32>) {
        // First to a list of their own, since a deadline far ahead may come back to the same slot.
        self.rings.move_all(list, MOVING);
        while let Some(item) = self.rings.first(MOVING) {
            self.rings.remove(item);
            match self.at[item as usize] {
                Some(at) if at > now => {
                    self.place(item, at);
                }
                _ => {
                    self.at[item as usize] = None;
                    due.push(item);
                }
            }
        }
    }

    /// The tick at which the first filled slot of a level begins.
    fn first_slot(&self, level: usize) -> Option<u64> {
        let first = slot_at(self.done, level) + 1;
        let ahead = self.filled[level].rotate_right((first % SLOTS) as u32);
        (ahead != 0).then(|| (first + u64::from(ahead.trailing_zeros())) << shift(level))
    }
}

/// The number of the slot that holds `tick`, counted from the start of time.
fn slot_at(tick: u64, level: usize) -> u64 {
    tick >> shift(level)
}

/// The length of a slot, as a power of two.
fn shift(level: usize) -> u32 {
    level as u32 * SLOTS.ilog2()
}

/// The list of a slot.
fn list(level: usize, slot: u64) -> u32 {
    (level as u64 * SLOTS + slot) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SEC: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    /// Nanoseconds in a tick of [`MS`], and in longer times.
    const TICK: u64 = 1_000_000;
    const DAY: u64 = 86_400_000 * TICK;
    const YEAR: u64 = 365 * DAY;

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    fn wheel(period: Duration) -> Wheel {
        let mut wheel = Wheel::new(period / 64, Timestamp::ORIGIN);
        wheel.grow(1000);
        wheel
    }

    /// Random numbers, the same in each run.
    fn random(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *seed >> 20
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
            let mut wanted: Vec<(u64, u32)> =
                (0..1000).map(|item| (1 + random(&mut seed) % (2000 * tick), item)).collect();
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
        assert!(due(&mut wheel, Timestamp::ORIGIN + SEC * 2).is_empty());
        assert_eq!(due(&mut wheel, Timestamp::ORIGIN + SEC * 4), [2]);
        wheel.set(1, None);
        assert_eq!(wheel.next_at(), None);
        // A deadline in the past is due with the next tick.
        wheel.set(3, Some(Timestamp::ORIGIN));
        let next = wheel.next_at().unwrap();
        assert!(next > Timestamp::ORIGIN + SEC * 4);
        assert_eq!(due(&mut wheel, next), [3]);
    }

    /// A wheel as RPC uses it, with ticks of a millisecond, and a plain list of the same deadlines.
    struct Model {
        wheel: Wheel,
        now: u64,
        /// The time of each item's deadline, and of the first tick at which it must be reported.
        wanted: BTreeMap<u32, (u64, u64)>,
        next: Option<u64>,
    }

    impl Model {
        const ITEMS: u32 = 200;

        fn new(now: u64) -> Self {
            let mut wheel = Wheel::new(MS, at(now));
            wheel.grow(Self::ITEMS as usize);
            Model { wheel, now, wanted: BTreeMap::new(), next: None }
        }

        fn set(&mut self, item: u32, nanos: Option<u64>) {
            self.wheel.set(item, nanos.map(at));
            match nanos {
                Some(nanos) => {
                    let tick = nanos.div_ceil(TICK).max(self.now / TICK + 1);
                    self.wanted.insert(item, (nanos, tick * TICK));
                }
                None => drop(self.wanted.remove(&item)),
            }
            let before = self.next;
            self.check_next();
            if !self.wanted.is_empty() {
                assert!(before.is_none_or(|before| self.next.unwrap() <= before), "it only moves earlier");
            }
        }

        /// Looks at time `now`, and returns the number of deadlines that were due.
        fn look(&mut self, now: u64) -> usize {
            self.now = now;
            let due = due(&mut self.wheel, at(now));
            for &item in &due {
                let (nanos, _) = self.wanted.remove(&item).expect("reported once");
                assert!(nanos <= now, "{item} is early");
            }
            assert!(self.wanted.values().all(|&(_, by)| by > now), "one is late");
            self.check_next();
            assert!(self.next.is_none_or(|next| next > now), "a look brings the next one");
            due.len()
        }

        fn check_next(&mut self) {
            self.next = self.wheel.next_at().map(Timestamp::as_nanos);
            let first = self.wanted.values().map(|&(_, by)| by).min();
            assert_eq!(self.next.is_some(), first.is_some());
            assert!(self.next <= first, "a wake would be late");
        }
    }

    /// Deadlines are set, moved and cleared in any order, and the clock runs, stands or jumps.
    #[test]
    fn any_order_of_calls_gives_what_a_list_gives() {
        let mut reported = 0;
        for mut seed in 1..=40 {
            let mut model = Model::new(random(&mut seed) % YEAR);
            for _ in 0..1500 {
                let item = random(&mut seed) as u32 % Model::ITEMS;
                // Times of all sizes up to years.
                let nanos = random(&mut seed) % (1 << (10 + random(&mut seed) % 47));
                match random(&mut seed) % 16 {
                    0..7 => model.set(item, Some(model.now + nanos)),
                    7..9 => model.set(item, None),
                    9 => model.set(item, Some(model.now.saturating_sub(nanos))),
                    10..14 => {
                        let next = model.next.unwrap_or(model.now);
                        reported += model.look(next.max(model.now));
                    }
                    14 => reported += model.look(model.now + nanos),
                    _ => reported += model.look(model.now),
                }
            }
            reported += model.look(model.now + 10 * YEAR);
            assert!(model.wanted.is_empty());
        }
        assert!(reported > 5000, "{reported}");
    }

    /// The number of looks that a driver with an exact timer makes until all deadlines are reported.
    fn looks(model: &mut Model) -> usize {
        let mut looks = 0;
        while let Some(next) = model.next {
            model.look(next);
            looks += 1;
        }
        looks
    }

    #[test]
    fn deadlines_of_any_length_share_a_wheel() {
        let lengths = [1, 2, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097, 30_000, 262_143, 262_144, 262_145];
        for start in [0, 1, 63 * TICK, 64 * TICK - 1, 4095 * TICK + 7, YEAR + 12_345] {
            let mut model = Model::new(start);
            for (item, length) in lengths.into_iter().chain([3_600_000, 86_400_000]).enumerate() {
                model.set(item as u32, Some(start + length * TICK));
            }
            let looks = looks(&mut model);
            // A day has 330 times the length of the last level, and each deadline before has its own looks.
            assert!(looks < 330 + 17 * LEVELS, "{looks} looks");
        }
    }

    /// One deadline needs one look, unless another one's look comes before.
    #[test]
    fn a_deadline_alone_needs_one_look() {
        for length in [1, 64, 65, 5000, 262_145, 86_400_000] {
            let mut model = Model::new(77 * TICK + 5);
            model.set(1, Some(model.now + length * TICK));
            assert_eq!(looks(&mut model), 1, "{length} ticks");
        }
    }

    /// Setting and clearing touch a few links, and a look one slot in 64, however many deadlines are set.
    #[test]
    fn the_cost_does_not_grow_with_the_number_of_deadlines() {
        const COUNT: u32 = 100_000;
        let mut wheel = Wheel::new(MS, Timestamp::ORIGIN);
        wheel.grow(COUNT as usize);
        let mut seed = 3;
        let mut most = 0;
        let mut set = |wheel: &mut Wheel, item, at| {
            let before = wheel.rings.calls.get();
            wheel.set(item, at);
            most = most.max(wheel.rings.calls.get() - before);
        };
        for item in 0..COUNT {
            set(&mut wheel, item, Some(at(1 + random(&mut seed) % DAY)));
        }
        for item in 0..COUNT {
            set(&mut wheel, item, Some(at(1 + random(&mut seed) % (60_000 * TICK))));
        }
        for item in (0..COUNT).filter(|item| item % 10 != 0) {
            set(&mut wheel, item, None);
        }
        assert!(most <= 2, "{most} steps");
        // Each of the others moves down by at most all levels, at a few links a time.
        let before = wheel.rings.calls.get();
        let mut reported = 0;
        while let Some(next) = wheel.next_at() {
            reported += due(&mut wheel, next).len();
        }
        let touched = (wheel.rings.calls.get() - before) / reported;
        assert_eq!(reported, COUNT as usize / 10);
        assert!(touched <= 16, "{touched} steps for each deadline");
    }

    /// A look after any time costs a visit to each filled slot, and what is due.
    #[test]
    fn a_look_after_a_year_is_short() {
        for years in [1, 100] {
            let mut wheel = Wheel::new(MS, Timestamp::ORIGIN);
            wheel.grow(300);
            (0..200).for_each(|item| wheel.set(item, Some(at(u64::from(item * item * item) * TICK))));
            wheel.set(200, Some(at(200 * YEAR)));
            let before = wheel.rings.calls.get();
            assert_eq!(due(&mut wheel, at(years * YEAR)).len(), 200);
            let touched = wheel.rings.calls.get() - before;
            assert!(touched < 200 * 4 + 64 * LEVELS * 3, "{touched} steps");
        }
    }

    #[test]
    fn deadlines_beyond_the_last_level_wait_in_its_last_slot() {
        let reach = 64u64.pow(LEVELS as u32) * TICK;
        let mut model = Model::new(5 * TICK);
        model.set(0, Some(model.now + 10 * reach));
        model.set(1, Some(model.now + 1000 * reach));
        model.set(2, Some(model.now + reach));
        // Late and early looks find them neither early nor late.
        assert_eq!(model.look(reach / 2), 0);
        assert_eq!(model.look(9 * reach + reach / 3), 1);
        model.set(2, Some(model.now + 500 * reach));
        assert_eq!(model.look(11 * reach), 1);
        let looks = looks(&mut model);
        assert!((990..1100).contains(&looks), "{looks} looks");
    }

    /// The end of time stands for never.
    #[test]
    fn the_end_of_time_does_not_overflow() {
        let end = Timestamp::from_nanos(u64::MAX);
        for tick in [Duration::ZERO, Duration::from_nanos(1), Duration::from_nanos(3), MS, SEC, Duration::MAX]
        {
            let mut wheel = Wheel::new(tick, Timestamp::ORIGIN);
            wheel.grow(3);
            wheel.set(0, Some(end));
            wheel.set(1, Some(at(1)));
            let dues = due(&mut wheel, at(YEAR));
            assert!(dues == [1] || wheel.tick > YEAR && dues.is_empty());
            wheel.set(2, Some(at(2 * YEAR)));
            let dues = due(&mut wheel, end);
            assert!(dues.contains(&2) || wheel.tick > YEAR, "{dues:?}");
            wheel.set(2, Some(at(1)));
            for _ in 0..3 {
                due(&mut wheel, end);
                assert!(wheel.next_at().is_none_or(|next| next > end));
            }
        }
    }
}
