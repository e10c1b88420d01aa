//! [`Ahead`]: events received while a connection waits to write.

use std::collections::VecDeque;

use getty_core::Event;

/// Events decoded before they were requested, in order. Holds no memory when empty.
pub(super) struct Ahead<T> {
    events: VecDeque<(Event<T>, usize)>,
    /// Total weight of the events.
    weight: usize,
    /// Maximum weight; the last event may exceed it.
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

    /// Whether there is enough room to wake the sending half. Waking it for each message taken would cost
    /// more.
    pub(super) fn has_much_room(&self) -> bool {
        self.weight <= self.limit / 2
    }

    /// Whether the next event is the opening.
    pub(super) fn begins_with_opening(&self) -> bool {
        matches!(self.events.front(), Some((Event::Open(_), _)))
    }
}
