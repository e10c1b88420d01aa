//! [`Status`]: what decides whether a session merely exchanges messages.

use super::due::Dues;
use super::phase::{Phase, Sending};

/// What decides whether a session merely exchanges messages. The fields are adjacent, so that one comparison
/// checks all of them.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Status {
    pub(super) phase: Phase,
    pub(super) sending: Sending,
    /// The bits of what waits to be polled, see [`pending`](crate::pending).
    pub(super) pending: u16,
    /// The writes that the protocol owes.
    pub(super) dues: Dues,
    pub(super) paused: bool,
    /// Queued replies exceeded the high watermark and have not fallen to the low one since: delivery stops.
    pub(super) blocked: bool,
    pub(super) read_ended: bool,
}

impl Status {
    /// The status of a session that begins.
    pub(super) const fn new() -> Self {
        Status {
            phase: Phase::Opening,
            sending: Sending::Open,
            pending: 0,
            dues: Dues::NONE,
            paused: false,
            blocked: false,
            read_ended: false,
        }
    }

    /// Whether the session is open in both directions and exchanges messages, and nothing else is to be done
    /// or waited for. Most turns see nothing else, so each check asks this first.
    #[inline(always)]
    pub(super) fn is_ordinary(&self) -> bool {
        const ORDINARY: u64 = Status { phase: Phase::Open, ..Status::new() }.bits();
        self.bits() == ORDINARY
    }

    /// All fields in one number. The compiler makes one load of it.
    #[inline(always)]
    const fn bits(&self) -> u64 {
        let [low, high] = self.pending.to_ne_bytes();
        let (phase, sending, dues) = (self.phase as u8, self.sending as u8, self.dues.bits());
        let flags = [self.paused as u8, self.blocked as u8, self.read_ended as u8];
        u64::from_ne_bytes([phase, sending, low, high, dues, flags[0], flags[1], flags[2]])
    }
}

#[cfg(test)]
mod tests {
    use super::super::due::Due;
    use super::*;

    #[test]
    fn anything_out_of_the_ordinary_is_seen() {
        let open = || Status { phase: Phase::Open, ..Status::new() };
        assert!(open().is_ordinary());
        assert!(!Status::new().is_ordinary());
        let changes: [fn(&mut Status); 8] = [
            |s| s.phase = Phase::Draining,
            |s| s.sending = Sending::Ending,
            |s| s.pending = 1,
            |s| s.pending = 1 << 15,
            |s| s.dues.add(Due::Close),
            |s| s.paused = true,
            |s| s.blocked = true,
            |s| s.read_ended = true,
        ];
        for change in changes {
            let mut status = open();
            change(&mut status);
            assert!(!status.is_ordinary(), "{status:?}");
        }
    }
}
