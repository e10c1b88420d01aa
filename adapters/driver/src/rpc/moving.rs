//! [`Trip`]: a call that waits for a session of a pool, and moves from one to another.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use getty_core::rpc::{Code, Executed, Request, Status};

use crate::rpc::entry::{Item, size};
use crate::rpc::mailbox::Mailbox;
use crate::rpc::posted::{Posted, Reads};
use crate::rpc::team::{Choice, Team};

/// The number of times that a call moves, at most.
const MAX_MOVES: usize = 3;

/// The way to the sessions of a pool.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) team: Arc<Team>,
    /// The time for which a call without a deadline waits for a session.
    pub(super) patience: Duration,
}

/// The first word of a call: an item, or its end.
pub(super) type FirstWord = Result<(Posted, Item), Status>;

/// A call on its way to a session that takes it. It keeps the request, to post it again.
pub(super) struct Trip {
    way: Way,
    request: Request,
    deadline: Option<Instant>,
    /// Sessions that have refused the call.
    refused: Vec<Arc<Mailbox>>,
    /// The call may not move after a refusal by a limit: it has once, or is a repetition already.
    is_limited: bool,
}

impl Trip {
    pub(super) fn new(way: Way, request: Request) -> Self {
        let deadline = request.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let is_limited = request.attempt() > 0;
        Trip { way, request, deadline, refused: Vec::new(), is_limited }
    }

    /// Posts the call to an open session, and waits for one if there is none. With `keeps` it may move to
    /// others after that: the result has the way to them.
    pub(super) async fn post(mut self, keeps: bool) -> Result<(Posted, Option<Way>), Status> {
        let posted = self.post_once(keeps).await?;
        Ok((posted, keeps.then_some(self.way)))
    }

    async fn post_once(&mut self, keeps: bool) -> Result<Posted, Status> {
        loop {
            let mailbox = self.session().await?;
            let mut request = self.request.clone();
            if let Some(deadline) = self.deadline {
                request.timeout = Some(deadline.saturating_duration_since(Instant::now()));
            }
            match mailbox.call(request, keeps) {
                Ok(key) => return Ok(Posted::new(mailbox, key)),
                Err(unposted) => self.note_refusal(mailbox, unposted.status)?,
            }
        }
    }

    /// Posts the call, and moves it until it is answered or has a first item.
    pub(super) async fn run(mut self, reads: Reads) -> FirstWord {
        loop {
            let mut posted = self.post_once(false).await?;
            match poll_fn(|cx| posted.poll(reads, cx)).await {
                Item::Over(Err(status)) => self.note_refusal(posted.mailbox.clone(), status)?,
                item => return Ok((posted, item)),
            }
        }
    }

    /// Notes that a session has refused the call.
    ///
    /// # Errors
    /// `status`, if the call does not move to another session.
    pub(super) fn note_refusal(&mut self, mailbox: Arc<Mailbox>, status: Status) -> Result<(), Status> {
        let is_limit = status.code() == Code::ResourceExhausted;
        let may_move =
            is_refusal(&status) && self.refused.len() < MAX_MOVES && !(is_limit && self.is_limited);
        if !may_move {
            return Err(status);
        }
        self.refused.push(mailbox);
        self.is_limited |= is_limit;
        match self.way.team.pick_besides(&self.refused) {
            Choice::Again(_) => Err(status),
            Choice::None if is_limit => Err(status),
            _ => {
                self.request.set_attempt(self.request.attempt().saturating_add(1));
                Ok(())
            }
        }
    }

    /// An open session; waits for one if there is none.
    async fn session(&self) -> Result<Arc<Mailbox>, Status> {
        if let Some(found) = self.look() {
            return found;
        }
        let team = &*self.way.team;
        let _waiting = team.enter(size(&self.request))?;
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut timer = team.timer(left.unwrap_or(self.way.patience));
        loop {
            let mut changed = team.listen();
            if let Some(found) = self.look() {
                return found;
            }
            let is_late = poll_fn(|cx| match Pin::new(&mut changed).poll(cx) {
                Poll::Ready(()) => Poll::Ready(false),
                Poll::Pending => timer.as_mut().poll(cx).map(|()| true),
            });
            if is_late.await {
                let status = match self.deadline {
                    Some(_) => Status::deadline_exceeded("no session of the pool was open in time"),
                    None => {
                        let patience = self.way.patience;
                        Status::unavailable(format!("no session of the pool was open within {patience:?}"))
                    }
                };
                return Err(status.with_executed(Executed::No));
            }
        }
    }

    fn look(&self) -> Option<Result<Arc<Mailbox>, Status>> {
        match self.way.team.pick_besides(&self.refused) {
            Choice::Other(mailbox) | Choice::Again(mailbox) => Some(Ok(mailbox)),
            Choice::None => None,
            Choice::Over => {
                let end = self.way.team.end();
                end.map(|end| Err(end.with_executed(Executed::No)))
            }
        }
    }
}

/// Whether a session did not take a call that another may take.
pub(super) fn is_refusal(status: &Status) -> bool {
    let code = status.code();
    status.executed() == Executed::No && (code == Code::Unavailable || code == Code::ResourceExhausted)
}
