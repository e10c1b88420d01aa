//! The table of a session's deadlines.

use crate::deadline::Deadline;
use crate::time::Timestamp;

/// The time of each deadline. A fixed table of eleven places, without allocation.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Deadlines {
    /// The earliest of them. Looked up in every turn; they change rarely.
    next: Option<Timestamp>,
    times: [Option<Timestamp>; Deadline::ALL.len()],
}

impl Deadlines {
    pub(crate) fn set(&mut self, deadline: Deadline, at: Timestamp) {
        self.change(deadline, Some(at));
    }

    pub(crate) fn clear(&mut self, deadline: Deadline) {
        self.change(deadline, None);
    }

    fn change(&mut self, deadline: Deadline, at: Option<Timestamp>) {
        self.times[deadline as usize] = at;
        self.next = self.times.iter().copied().flatten().min();
    }

    pub(crate) fn clear_all(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn is_set(&self, deadline: Deadline) -> bool {
        self.at(deadline).is_some()
    }

    /// The time of `deadline`.
    pub(crate) fn at(&self, deadline: Deadline) -> Option<Timestamp> {
        self.times[deadline as usize]
    }

    /// The time of `deadline`, if it is at or before `now`.
    pub(crate) fn expired(&self, deadline: Deadline, now: Timestamp) -> Option<Timestamp> {
        self.times[deadline as usize].filter(|&at| at <= now)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<(Timestamp, Deadline)> {
        Deadline::ALL.into_iter().filter_map(|d| Some((self.times[d as usize]?, d))).min_by_key(|(at, _)| *at)
    }

    /// The time of the earliest deadline.
    #[inline]
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_comes_first() {
        let mut deadlines = Deadlines::default();
        assert_eq!(deadlines.next(), None);
        let soon = Timestamp::from_origin(Duration::from_secs(1));
        let late = Timestamp::from_origin(Duration::from_secs(2));
        deadlines.set(Deadline::Close, late);
        deadlines.set(Deadline::Cron, soon);
        assert_eq!(deadlines.next(), Some((soon, Deadline::Cron)));
        assert_eq!(deadlines.next_at(), Some(soon));
        assert_eq!(deadlines.expired(Deadline::Close, soon), None);
        assert_eq!(deadlines.expired(Deadline::Close, late), Some(late));
        deadlines.clear(Deadline::Cron);
        assert_eq!(deadlines.next_at(), Some(late));
        deadlines.clear_all();
        assert!(Deadline::ALL.iter().all(|&d| !deadlines.is_set(d)));
    }

    #[test]
    fn the_table_is_in_order_of_the_enum() {
        for (index, deadline) in Deadline::ALL.into_iter().enumerate() {
            assert_eq!(deadline as usize, index);
        }
    }
}
