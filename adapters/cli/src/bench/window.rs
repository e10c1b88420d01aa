//! [`Window`]: the messages of a connection that are in flight.

/// A message is lost once this many times the depth were sent after it.
const OVERTAKEN: usize = 4;

/// The minimum number of later messages for that.
const OVERTAKEN_AT_LEAST: usize = 64;

/// The messages of one connection, by number: the send times of those in flight, and the fate of the latest
/// others.
///
/// Datagrams may be lost. A message counts as lost if its echo does not come in time ([`lose`](Self::lose)),
/// or once many later ones were sent and its slot is needed again. A lost message makes room for a new one,
/// which keeps the depth.
#[derive(Debug)]
pub struct Window {
    depth: usize,
    /// The messages' slots, indexed by number modulo their count, a power of two.
    places: Box<[Place]>,
    /// The number of the next message.
    next: u64,
    in_flight: usize,
    /// One after the highest number that came back.
    newest: u64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    state: State,
    sent_at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InFlight,
    Back,
    Lost,
}

/// The classification of an echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echoed {
    /// Of a message in flight, sent at this time. `reordered` if the echo of a later message came first.
    Back { sent_at: u64, reordered: bool },
    /// Of a message that already came back.
    Double,
    /// Of a message that counts as lost.
    Late,
    /// Of a message that was never sent.
    NeverSent,
}

impl Window {
    /// Makes an empty window. If the transport loses nothing, it keeps only the latest `depth` messages.
    pub fn new(depth: usize, loses: bool) -> Self {
        let places = if loses { depth.saturating_mul(OVERTAKEN).max(OVERTAKEN_AT_LEAST) } else { depth };
        let place = Place { state: State::Back, sent_at: 0 };
        Window {
            depth,
            places: vec![place; places.next_power_of_two()].into(),
            next: 0,
            in_flight: 0,
            newest: 0,
        }
    }

    /// Whether another message may be sent.
    pub fn has_room(&self) -> bool {
        self.in_flight < self.depth
    }

    /// Whether no message is in flight.
    pub fn is_empty(&self) -> bool {
        self.in_flight == 0
    }

    /// Records that the next message was sent. Returns whether an older one is lost to make room.
    pub fn send(&mut self, now: u64) -> bool {
        let index = self.index(self.next);
        let place =
            std::mem::replace(&mut self.places[index], Place { state: State::InFlight, sent_at: now });
        let lost = place.state == State::InFlight;
        self.next += 1;
        self.in_flight += usize::from(!lost);
        lost
    }

    /// Records an echo; `number` is `None` if it matches no message.
    pub fn echo(&mut self, number: Option<u64>) -> Echoed {
        let Some(number) = number.filter(|&number| number < self.next) else { return Echoed::NeverSent };
        if self.next - number > self.places.len() as u64 {
            return Echoed::Late; // too old: it was given up long ago
        }
        let index = self.index(number);
        let Place { state, sent_at } = &mut self.places[index];
        match state {
            State::Back => Echoed::Double,
            State::Lost => {
                *state = State::Back;
                Echoed::Late
            }
            State::InFlight => {
                *state = State::Back;
                self.in_flight -= 1;
                let reordered = number < self.newest;
                self.newest = self.newest.max(number + 1);
                Echoed::Back { sent_at: *sent_at, reordered }
            }
        }
    }

    /// Counts messages sent before `time` and still in flight as lost. Returns how many.
    pub fn lose(&mut self, time: u64) -> u64 {
        let mut lost = 0;
        for place in &mut self.places {
            if place.state == State::InFlight && place.sent_at < time {
                place.state = State::Lost;
                lost += 1;
            }
        }
        self.in_flight -= lost;
        lost as u64
    }

    fn index(&self, number: u64) -> usize {
        number as usize & (self.places.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(messages: u64) -> Window {
        let mut window = Window::new(4, true);
        (0..messages).for_each(|n| assert!(!window.send(n)));
        window
    }

    fn back(sent_at: u64) -> Echoed {
        Echoed::Back { sent_at, reordered: false }
    }

    #[test]
    fn in_order_without_loss() {
        for depth in [1, 3, 16] {
            let mut window = Window::new(depth, false);
            assert_eq!(window.places.len(), depth.next_power_of_two());
            (0..depth as u64).for_each(|n| assert!(window.has_room() && !window.send(n)));
            for n in 0..1000 {
                assert!(!window.has_room());
                assert_eq!(window.echo(Some(n)), back(n));
                assert!(!window.send(n + depth as u64));
            }
            assert_eq!(window.lose(1000), 0);
        }
    }

    #[test]
    fn echoes_in_another_order_and_doubles_are_told() {
        let mut window = sent(4);
        assert_eq!(window.echo(Some(1)), back(1));
        assert_eq!(window.echo(Some(0)), Echoed::Back { sent_at: 0, reordered: true });
        assert_eq!(window.echo(Some(0)), Echoed::Double);
        assert_eq!(window.echo(Some(3)), back(3));
        assert_eq!(window.echo(Some(2)), Echoed::Back { sent_at: 2, reordered: true });
        assert!(window.is_empty());
        assert_eq!(window.echo(Some(4)), Echoed::NeverSent);
        assert_eq!(window.echo(None), Echoed::NeverSent);
    }

    #[test]
    fn what_does_not_come_back_in_time_is_lost() {
        let mut window = sent(4);
        assert_eq!(window.echo(Some(1)), back(1));
        assert_eq!(window.lose(3), 2);
        assert_eq!(window.lose(3), 0);
        assert!(window.has_room());
        assert_eq!(window.echo(Some(0)), Echoed::Late);
        assert_eq!(window.echo(Some(0)), Echoed::Double);
        assert_eq!(window.echo(Some(3)), back(3));
        assert!(window.is_empty());
    }

    #[test]
    fn what_many_others_overtake_is_lost() {
        let mut window = sent(1);
        for n in 1..64 {
            assert!(!window.send(n));
            assert_eq!(window.echo(Some(n)), back(n));
        }
        assert!(!window.is_empty());
        assert!(window.send(64), "this one takes the place of the first");
        assert_eq!(window.echo(Some(0)), Echoed::Late);
        assert_eq!(window.echo(Some(64)), back(64));
        assert!(window.is_empty());
    }
}
