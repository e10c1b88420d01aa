//! [`Drops`]: counts what is dropped, and says when to report it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::dropped::{DropCounts, DropReason, Dropped};
use crate::time::Timestamp;

/// Interval between reports.
const REPORT_PERIOD: Duration = Duration::from_secs(1);

/// Counts drops and decides when to report them.
#[derive(Debug, Default)]
pub(super) struct Drops {
    /// Counts since the beginning.
    total: DropCounts,
    /// The next report.
    report: Option<Box<Dropped>>,
    /// The earliest time of the next report.
    quiet_until: Option<Timestamp>,
}

impl Drops {
    #[cold]
    pub(super) fn count(&mut self, peer: Option<SocketAddr>, reason: DropReason) {
        *self.total.of(&reason) += 1;
        match &mut self.report {
            Some(report) => {
                *report.counts.of(&reason) += 1;
                (report.reason, report.peer) = (reason, peer);
            }
            None => {
                let mut counts = DropCounts::default();
                *counts.of(&reason) += 1;
                self.report = Some(Box::new(Dropped { counts, reason, peer }));
            }
        }
    }

    /// Takes the report, if there is one and it is time.
    #[inline]
    pub(super) fn take_report(&mut self, now: Timestamp) -> Option<Box<Dropped>> {
        if !self.is_due(now) {
            return None;
        }
        self.quiet_until = Some(now + REPORT_PERIOD);
        self.report.take()
    }

    #[inline]
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.report.is_some() && self.quiet_until.is_none_or(|at| at <= now)
    }

    /// The time when a report is due, if there is one.
    pub(super) fn report_at(&self) -> Option<Timestamp> {
        self.report.as_ref().and(self.quiet_until)
    }

    /// Discards the report, since the session has ended.
    pub(super) fn forget_report(&mut self) {
        self.report = None;
    }

    pub(super) fn total(&self) -> DropCounts {
        self.total
    }
}
