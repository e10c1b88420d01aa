//! [`Activity`]: counts of a datagram session; [`Periods`]: its periodic events.

use std::time::Duration;

use crate::config::Config;
use crate::pending;
use crate::stats::Flow;
use crate::time::Timestamp;

/// Nothing was received or sent for `Config::idle_timeout`. A bit besides those of [`pending`].
pub(super) const IDLE_TIMEOUT: u16 = 1 << 14;

/// Ticks in the shortest period. A deadline is noticed late by at most this fraction of it.
const TICKS_IN_PERIOD: u32 = 64;

/// Timestamps and counts of one session that traffic updates.
#[derive(Debug)]
pub(super) struct Activity {
    /// Time of the last received datagram.
    received_at: Timestamp,
    /// Start of the current quiet time of writing.
    write_since: Timestamp,
    received_bytes: u64,
    received_datagrams: u64,
    sent_bytes: u64,
    /// Quiet periods already reported since the last traffic, as bits of [`pending`].
    reported: u16,
}

/// Other inputs of a session's periods. Traffic does not touch them; only an expiry compares them.
#[derive(Debug)]
pub(super) struct Periods {
    cron_at: Option<Timestamp>,
    /// The last sign of life other than a datagram.
    signed_at: Timestamp,
    /// End of the last pause of reading.
    resumed_at: Timestamp,
}

impl Activity {
    pub(super) fn new(now: Timestamp) -> Self {
        Activity {
            received_at: now,
            write_since: now,
            received_bytes: 0,
            received_datagrams: 0,
            sent_bytes: 0,
            reported: 0,
        }
    }

    #[inline]
    pub(super) fn count_received(&mut self, now: Timestamp, bytes: usize) {
        self.received_bytes += bytes as u64;
        self.received_datagrams += 1;
        self.received_at = now;
        self.reported &= !(pending::IDLE_READ | pending::IDLE_BOTH);
    }

    #[inline]
    pub(super) fn count_sent(&mut self, now: Timestamp, bytes: usize) {
        self.sent_bytes += bytes as u64;
        self.write_since = now;
        self.reported &= !(pending::IDLE_WRITE | pending::IDLE_BOTH);
    }

    /// Time of the last received datagram, or of the session's start.
    #[inline]
    pub(super) fn received_at(&self) -> Timestamp {
        self.received_at
    }

    /// Whether exactly one datagram has been received.
    pub(super) fn is_first(&self) -> bool {
        self.received_datagrams == 1
    }

    pub(super) fn received(&self, messages: u64) -> Flow {
        flow(self.received_bytes, self.received_datagrams, messages, self.received_at)
    }

    /// Returns the counts of sent traffic, which consists of `datagrams`.
    pub(super) fn sent(&self, messages: u64, datagrams: u64) -> Flow {
        flow(self.sent_bytes, datagrams, messages, self.write_since)
    }
}

impl Periods {
    pub(super) fn new(config: &Config, now: Timestamp) -> Self {
        let cron_at = config.cron_period().map(|period| now + period);
        Periods { cron_at, signed_at: now, resumed_at: now }
    }

    /// Records a sign of life other than a datagram.
    pub(super) fn sign(&mut self, now: Timestamp) {
        self.signed_at = now;
    }

    /// Restarts the peer's time, since reading was suspended until now.
    pub(super) fn restart_reading(&mut self, now: Timestamp) {
        self.resumed_at = now;
    }

    pub(super) fn last_active(&self, activity: &Activity) -> Timestamp {
        self.signed_at.max(activity.received_at)
    }

    /// Returns what is due by now, as bits of [`pending`] and [`IDLE_TIMEOUT`], and when to check again. The
    /// peer is not blamed for silence before `readable_since`, which is now while nothing is read.
    pub(super) fn expire(
        &mut self,
        activity: &mut Activity,
        config: &Config,
        now: Timestamp,
        readable_since: Timestamp,
    ) -> (u16, Option<Timestamp>) {
        let mut due = 0;
        if let (Some(at), Some(period)) = (self.cron_at.filter(|&at| at <= now), config.cron_period()) {
            // Keeps the rhythm, unless it fell behind by a period: missed ones are skipped.
            self.cron_at = Some(if at + period > now { at + period } else { now + period });
            due |= pending::CRON;
        }
        let read = activity.received_at.max(self.resumed_at).max(readable_since);
        let quiet = [
            (pending::IDLE_READ, config.idle_read(), read),
            (pending::IDLE_WRITE, config.idle_write(), activity.write_since),
            (pending::IDLE_BOTH, config.idle_both(), read.max(activity.write_since)),
            (IDLE_TIMEOUT, config.idle_timeout(), read.max(activity.write_since)),
        ];
        let mut next = self.cron_at;
        for (bit, period, since) in quiet {
            let Some(period) = period else { continue };
            let mut at = since + period;
            if at <= now {
                // Anything that comes later can't be overdue before another period has passed.
                at = now + period;
                due |= bit & !activity.reported;
            }
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        activity.reported |= due & !pending::CRON;
        (due, next)
    }
}

/// Returns how late the deadlines of many peers may be noticed, so that few wakes serve them all.
pub(super) fn tick(config: &Config) -> Duration {
    let idle = [config.idle_read(), config.idle_write(), config.idle_both(), config.idle_timeout()];
    let periods = idle.into_iter().chain([config.cron_period()]);
    let shortest = periods.flatten().min().unwrap_or(Duration::from_secs(1));
    // A peer's close may be late too, but by no more than its timeout.
    (shortest / TICKS_IN_PERIOD).min(config.close_timeout()).max(Duration::from_millis(1))
}

fn flow(bytes: u64, datagrams: u64, messages: u64, last: Timestamp) -> Flow {
    Flow { bytes, messages, operations: datagrams, last: (datagrams > 0).then_some(last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_a_fraction_of_the_shortest_period() {
        let millis = Duration::from_millis;
        let config = || Config::builder().idle_timeout(millis(64_000));
        let tick = |config: crate::config::ConfigBuilder| tick(&config.build().unwrap());
        assert_eq!(tick(config()), millis(1000));
        assert_eq!(tick(config().cron_period(millis(32_000)).idle_read(millis(70_000))), millis(500));
        assert_eq!(tick(config().close_timeout(millis(300))), millis(300));
        assert_eq!(tick(config().idle_both(millis(10))), millis(1));
    }
}
