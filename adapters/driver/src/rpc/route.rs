//! [`Route`]: the way of a caller's calls to the other side.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use getty_core::rpc::{Request, Status};

use crate::rpc::mailbox::Mailbox;
use crate::rpc::moving::{Trip, Way};
use crate::rpc::posted::Posted;
use crate::rpc::team::Team;

/// The time for which a call without a deadline waits for a session of a pool.
const PATIENCE: Duration = Duration::from_secs(10);

/// One session, or those of a pool.
#[derive(Debug, Clone)]
pub(super) enum Route {
    One(Arc<Mailbox>),
    Pool(Way),
}

/// A call that was not posted at once.
pub(super) enum NotPosted {
    /// It is over.
    Failed(Status),
    /// It waits for a session of the pool, or goes to another one.
    Waits(Box<Trip>),
}

impl Route {
    pub(super) fn to_pool(team: Arc<Team>) -> Self {
        Route::Pool(Way { team, patience: PATIENCE })
    }

    /// Sets the time for which a call without a deadline waits for a session.
    pub(super) fn set_patience(&mut self, patience: Duration) {
        if let Route::Pool(way) = self {
            way.patience = patience;
        }
    }

    /// Posts a call to a session that is open. With `keeps` it may move to other sessions: the result has the
    /// way to them.
    pub(super) fn post_now(self, request: Request, keeps: bool) -> Result<(Posted, Option<Way>), NotPosted> {
        let (mailbox, way) = match self {
            Route::One(mailbox) => (mailbox, None),
            Route::Pool(way) => match way.team.pick() {
                Some(mailbox) => (mailbox, Some(way)),
                None => return Err(NotPosted::Waits(Box::new(Trip::new(way, request)))),
            },
        };
        let unposted = match mailbox.call(request, keeps && way.is_some()) {
            Ok(key) => return Ok((Posted::new(mailbox, key), way.filter(|_| keeps))),
            Err(unposted) => unposted,
        };
        let Some(way) = way else { return Err(NotPosted::Failed(unposted.status)) };
        let mut trip = Box::new(Trip::new(way, unposted.request));
        match trip.note_refusal(mailbox, unposted.status) {
            Ok(()) => Err(NotPosted::Waits(trip)),
            Err(status) => Err(NotPosted::Failed(status)),
        }
    }

    /// Posts a call as [`post_now`](Self::post_now) does. Waits for a session of a pool if none is open.
    pub(super) async fn post(self, request: Request, keeps: bool) -> Result<(Posted, Option<Way>), Status> {
        match self.post_now(request, keeps) {
            Ok(posted) => Ok(posted),
            Err(NotPosted::Failed(status)) => Err(status),
            Err(NotPosted::Waits(trip)) => trip.post(keeps).await,
        }
    }

    pub(super) fn add_caller(&self) {
        match self {
            Route::One(mailbox) => mailbox.add_caller(),
            Route::Pool(way) => way.team.add_caller(),
        }
    }

    pub(super) fn remove_caller(&self) {
        match self {
            Route::One(mailbox) => mailbox.remove_caller(),
            Route::Pool(way) => way.team.remove_caller(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            Route::One(mailbox) => mailbox.is_over(),
            Route::Pool(way) => way.team.end().is_some(),
        }
    }

    /// Waits until no call can be made any longer.
    pub(super) async fn closed(&self) -> Status {
        match self {
            Route::One(mailbox) => {
                let mut wait = EndWait { mailbox, place: None };
                poll_fn(|cx| wait.mailbox.poll_end(&mut wait.place, cx)).await
            }
            Route::Pool(way) => way.team.ended().await,
        }
    }
}

/// A wait for the end of a connection, which leaves nothing behind when it is dropped.
struct EndWait<'a> {
    mailbox: &'a Mailbox,
    place: Option<usize>,
}

impl Drop for EndWait<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.mailbox.leave_end(place);
        }
    }
}
