//! [`Drops`]: counts what is dropped, and says when to report it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::dropped::{DropCounts, DropReason, Dropped};
use crate::time::Timestamp;

/// How often reports come.
const REPORT_PERIOD: Duration = Duration::from_secs(1);

/// Counts what is dropped, and says when to tell.
#[derive(Debug, Default)]
pub(super) struct Drops {
    /// Since the beginning.
    total: DropCounts,
    /// What is to be told next.
    report: Option<Box<Dropped>>,
    /// No report comes before.
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

    /// The report, if there is one and it is time to tell.
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

    /// When a report is due, if there is one.
    pub(super) fn report_at(&self) -> Option<Timestamp> {
        self.report.as_ref().and(self.quiet_until)
    }

    /// The session is over, and tells nothing more of this.
    pub(super) fn forget_report(&mut self) {
        self.report = None;
    }

    pub(super) fn total(&self) -> DropCounts {
        self.total
    }
}
