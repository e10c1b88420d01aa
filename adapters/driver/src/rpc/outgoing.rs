//! [`Outgoing`]: a call under way, as its reader has it.

use std::fmt;
use std::task::{Context, Poll, ready};

use getty_core::rpc::Request;

use crate::rpc::boxed::Boxed;
use crate::rpc::dispatch::Response;
use crate::rpc::entry::{Item, gone};
use crate::rpc::layered::Layered;
use crate::rpc::moving::{FirstWord, Trip, Way, is_refusal};
use crate::rpc::posted::{Posted, Reads, Streams};
use crate::rpc::route::{NotPosted, Route};

/// A call under way. Dropping it gives the call up.
pub(crate) struct Outgoing(State);

enum State {
    /// With a session. If that refuses it, it may move by this way.
    Posted { posted: Posted, way: Option<Way> },
    /// Waits for a session, or moves from one to another.
    Moving(Boxed<FirstWord>),
    /// There are layers around it.
    Layered(Layered),
    /// It has ended, and this was not read.
    Ended(Response),
    /// Its end was read.
    Over,
}

impl Outgoing {
    /// Begins a call that can be repeated as it is.
    pub(super) fn begin(route: Route, request: Request, reads: Reads) -> Self {
        match route.post_now(request, true) {
            Ok((posted, way)) => Self::posted(posted, way),
            Err(NotPosted::Failed(status)) => Self::ended(Err(status)),
            Err(NotPosted::Waits(trip)) => Outgoing(State::Moving(Boxed::new(trip.run(reads)))),
        }
    }

    /// A call of this side that was posted, which may move by this way, or the stream of a call of the peer.
    pub(super) fn posted(posted: Posted, way: Option<Way>) -> Self {
        Outgoing(State::Posted { posted, way })
    }

    pub(super) fn layered(layered: Layered) -> Self {
        Outgoing(State::Layered(layered))
    }

    pub(super) fn ended(end: Response) -> Self {
        Outgoing(State::Ended(end))
    }

    /// The streams, if the call is with a session.
    pub(super) fn streams(&self) -> Option<Streams> {
        match &self.0 {
            State::Posted { posted, .. } => Some(posted.streams()),
            _ => None,
        }
    }

    /// The end of the call. Its items are dropped.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Response> {
        loop {
            if let Item::Over(end) = ready!(self.poll(Reads::Answer, cx)) {
                return Poll::Ready(end);
            }
        }
    }

    /// The next item of the call, or its end.
    pub(super) fn poll(&mut self, reads: Reads, cx: &mut Context<'_>) -> Poll<Item> {
        loop {
            match &mut self.0 {
                State::Posted { posted, way } => {
                    let item = ready!(posted.poll(reads, cx));
                    let status = match item {
                        Item::Over(Err(status)) if way.is_some() && is_refusal(&status) => status,
                        item => return Poll::Ready(item),
                    };
                    let Some((way, request)) = way.take().zip(posted.take_back()) else {
                        return Poll::Ready(Item::Over(Err(status)));
                    };
                    let mut trip = Trip::new(way, request);
                    if let Err(status) = trip.note_refusal(posted.mailbox.clone(), status) {
                        return Poll::Ready(Item::Over(Err(status)));
                    }
                    self.0 = State::Moving(Boxed::new(trip.run(reads)));
                }
                State::Moving(moving) => {
                    let item = match ready!(moving.poll(cx)) {
                        Ok((posted, item)) => {
                            self.0 = State::Posted { posted, way: None };
                            item
                        }
                        Err(status) => {
                            self.0 = State::Over;
                            Item::Over(Err(status))
                        }
                    };
                    return Poll::Ready(item);
                }
                State::Layered(layered) => {
                    let item = ready!(layered.poll(reads, cx));
                    if let Item::Over(_) = item {
                        self.0 = State::Over;
                    }
                    return Poll::Ready(item);
                }
                State::Ended(_) => {
                    let State::Ended(end) = std::mem::replace(&mut self.0, State::Over) else { continue };
                    return Poll::Ready(Item::Over(end));
                }
                State::Over => return Poll::Ready(Item::Over(Err(gone()))),
            }
        }
    }

    /// Gives the call up.
    pub(super) fn give_up(&mut self) {
        self.0 = State::Over;
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").finish_non_exhaustive()
    }
}
