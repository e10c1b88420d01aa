//! [`Ahead`]: what was received while somebody waited to write.

use std::collections::VecDeque;

use getty_core::Event;

/// Events that were decoded before anybody asked for them, in order. An idle connection's holds no memory.
pub(super) struct Ahead<T> {
    events: VecDeque<(Event<T>, usize)>,
    /// What they weigh together.
    weight: usize,
    /// How much that may be; the last one may go past it.
    limit: usize,
}

impl<T> Ahead<T> {
    pub(super) fn new(limit: usize) -> Self {
        Ahead { events: VecDeque::new(), weight: 0, limit }
    }

    /// Adds an event, which weighs as much as its place in the queue at least.
    pub(super) fn push(&mut self, event: Event<T>, weight: usize) {
        let weight = weight.max(size_of::<(Event<T>, usize)>());
        self.weight += weight;
        self.events.push_back((event, weight));
    }

    pub(super) fn pop(&mut self) -> Option<Event<T>> {
        let (event, weight) = self.events.pop_front()?;
        self.weight -= weight;
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        Some(event)
    }

    /// All events, and what they weigh.
    pub(super) fn into_events(self) -> impl Iterator<Item = (Event<T>, usize)> {
        self.events.into_iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.weight >= self.limit
    }

    /// Whether it is worth waking who waits for room: waking it for each message that is taken would cost more.
    pub(super) fn has_much_room(&self) -> bool {
        self.weight <= self.limit / 2
    }

    /// Whether the opening is the next event.
    pub(super) fn begins_with_opening(&self) -> bool {
        matches!(self.events.front(), Some((Event::Open(_), _)))
    }
}
