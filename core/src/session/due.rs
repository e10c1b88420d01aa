//! [`Due`]: the writes that a protocol owes.

/// A write that a protocol owes its session. The variants are in the order of writing.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// This side's part of the opening handshake.
    Handshake,
    /// A refusal, because the session ends before the peer's request was answered.
    Refuse,
    /// The answer to a ping, which had to wait for room.
    Pong,
    /// A ping.
    Ping,
    /// This side's part of the closing handshake.
    Close,
}

/// A set of [`Due`]s.
#[derive(Debug)]
pub(super) struct Dues(u8);

impl Dues {
    pub(super) const NONE: Dues = Dues(0);

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// One bit for each.
    pub(super) const fn bits(&self) -> u8 {
        self.0
    }

    pub(super) fn add(&mut self, due: Due) {
        self.0 |= 1 << due as u8;
    }

    pub(super) fn remove(&mut self, due: Due) {
        self.0 &= !(1 << due as u8);
    }

    pub(super) fn clear(&mut self) {
        self.0 = 0;
    }

    /// Takes the first to write.
    pub(super) fn take(&mut self) -> Option<Due> {
        const ORDER: [Due; 5] = [Due::Handshake, Due::Refuse, Due::Pong, Due::Ping, Due::Close];
        let due = *ORDER.get(self.0.trailing_zeros() as usize)?;
        self.remove(due);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_taken_in_the_order_of_the_variants_each_once() {
        let mut dues = Dues::NONE;
        for due in [Due::Close, Due::Ping, Due::Refuse, Due::Pong, Due::Handshake, Due::Ping] {
            dues.add(due);
        }
        dues.remove(Due::Pong);
        let taken: Vec<Due> = std::iter::from_fn(|| dues.take()).collect();
        assert_eq!(taken, [Due::Handshake, Due::Refuse, Due::Ping, Due::Close]);
        assert!(dues.is_empty());
    }
}
