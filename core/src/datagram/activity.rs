//! [`Activity`]: what a datagram session has done, and what its periods ask for.

use crate::session::pending;
use crate::stats::Flow;
use crate::{Config, Timestamp};

/// Stamps and counts of one session. Traffic writes them; only an expiry compares them.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) last_active: Timestamp,
    /// Since when reading has been quiet: the last datagram, or the end of a pause.
    read_since: Timestamp,
    /// When the last datagram was taken up.
    received_at: Timestamp,
    /// Since when writing has been quiet.
    write_since: Timestamp,
    cron_at: Option<Timestamp>,
    received: Counted,
    sent: Counted,
    /// The quiet periods that were told since the last traffic, as bits of [`pending`].
    told: u16,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counted {
    bytes: u64,
    datagrams: u64,
}

impl Activity {
    pub(super) fn new(config: &Config, now: Timestamp) -> Self {
        Activity {
            last_active: now,
            read_since: now,
            received_at: now,
            write_since: now,
            cron_at: config.cron_period().map(|period| now + period),
            received: Counted::default(),
            sent: Counted::default(),
            told: 0,
        }
    }

    #[inline]
    pub(super) fn count_received(&mut self, now: Timestamp, bytes: usize) {
        self.received.bytes += bytes as u64;
        self.received.datagrams += 1;
        (self.last_active, self.read_since, self.received_at) = (now, now, now);
        self.told &= !(pending::IDLE_READ | pending::IDLE_BOTH);
    }

    #[inline]
    pub(super) fn count_sent(&mut self, now: Timestamp, bytes: usize) {
        self.sent.bytes += bytes as u64;
        self.sent.datagrams += 1;
        self.write_since = now;
        self.told &= !(pending::IDLE_WRITE | pending::IDLE_BOTH);
    }

    /// Whether one datagram was received so far.
    pub(super) fn is_first(&self) -> bool {
        self.received.datagrams == 1
    }

    /// Reads from every part of it.
    pub(super) fn touched(&self) -> u64 {
        let stamps = [self.last_active, self.read_since, self.received_at, self.write_since];
        let counts = self.received.bytes ^ self.received.datagrams ^ self.sent.bytes ^ self.sent.datagrams;
        stamps.iter().fold(counts ^ u64::from(self.told), |sum, stamp| sum ^ stamp.as_nanos())
    }

    /// Reading was suspended until now: the peer's time starts afresh.
    pub(super) fn restart_reading(&mut self, now: Timestamp) {
        self.read_since = now;
    }

    /// What is due by now, as bits of [`pending`], and when to look again. The peer can't be blamed for what did not come
    /// before `readable_since`, which is now while nothing is read.
    pub(super) fn expire(
        &mut self,
        config: &Config,
        now: Timestamp,
        readable_since: Timestamp,
    ) -> (u16, Option<Timestamp>) {
        let mut due = 0;
        if let (Some(at), Some(period)) = (self.cron_at.filter(|&at| at <= now), config.cron_period()) {
            // In step with the first one, unless that fell behind: missed ones are not made up for.
            self.cron_at = Some(if at + period > now { at + period } else { now + period });
            due |= pending::CRON;
        }
        let read = self.read_since.max(readable_since);
        let quiet = [
            (pending::IDLE_READ, config.idle_read(), read),
            (pending::IDLE_WRITE, config.idle_write(), self.write_since),
            (pending::IDLE_BOTH, config.idle_both(), read.max(self.write_since)),
        ];
        let mut next = self.cron_at;
        for (bit, period, since) in quiet {
            let Some(period) = period else { continue };
            let mut at = since + period;
            if at <= now {
                // What comes after this moment can't be overdue before another period is over.
                at = now + period;
                due |= bit & !self.told;
            }
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        self.told |= due & !pending::CRON;
        (due, next)
    }

    pub(super) fn received(&self, messages: u64) -> Flow {
        flow(self.received, messages, self.received_at)
    }

    pub(super) fn sent(&self, messages: u64) -> Flow {
        flow(self.sent, messages, self.write_since)
    }
}

fn flow(counted: Counted, messages: u64, last: Timestamp) -> Flow {
    Flow {
        bytes: counted.bytes,
        messages,
        operations: counted.datagrams,
        last: (counted.datagrams > 0).then_some(last),
    }
}
