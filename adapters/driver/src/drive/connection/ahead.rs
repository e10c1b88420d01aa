//! [`Ahead`]: events received while a connection waits to write.

use std::collections::VecDeque;

use getty_core::Event;

/// Events that were decoded before they were asked for, in order. Empty, it holds no memory.
pub(super) struct Ahead<T> {
    events: VecDeque<(Event<T>, usize)>,
    /// Their weight.
    weight: usize,
    /// The most that they may weigh; the last one may go past it.
    limit: usize,
}

impl<T> Ahead<T> {
    pub(super) fn new(limit: usize) -> Self {
        Ahead { events: VecDeque::new(), weight: 0, limit }
    }

    /// Adds an event, which weighs at least as much as its place in the queue.
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

    /// All events, with their weights.
    pub(super) fn into_events(self) -> impl Iterator<Item = (Event<T>, usize)> {
        self.events.into_iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.weight >= self.limit
    }

    /// Whether it is worth waking the sending half: waking it for each message that is taken would cost more.
    pub(super) fn has_much_room(&self) -> bool {
        self.weight <= self.limit / 2
    }

    /// Whether the opening is the next event.
    pub(super) fn begins_with_opening(&self) -> bool {
        matches!(self.events.front(), Some((Event::Open(_), _)))
    }
}
