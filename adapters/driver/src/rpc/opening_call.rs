//! [`OpeningCall`]: a call with streams that opens.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use getty_core::rpc::{Coding, Request, Status};

use crate::rpc::boxed::Boxed;
use crate::rpc::call_layer::{CallLayers, CallShape, Outbound};
use crate::rpc::layered::Layered;
use crate::rpc::moving::Way;
use crate::rpc::outgoing::Outgoing;
use crate::rpc::posted::{Posted, Streams};
use crate::rpc::route::{NotPosted, Route};

/// The shape of a call with streams.
pub trait Streaming {
    /// What the caller gets.
    type Handles;

    /// What the caller gets if the call fails before.
    type Failure;

    #[doc(hidden)]
    const SHAPE: CallShape;

    /// The handles of a call, whose `items` may be compressed or not.
    #[doc(hidden)]
    fn handles(self, opened: Opened, items: Coding) -> Self::Handles;

    #[doc(hidden)]
    fn failure(&self, status: Status) -> Self::Failure;
}

/// A call that was posted.
#[derive(Debug)]
pub struct Opened {
    /// Where items are sent.
    pub(super) sending: Streams,
    /// What is received.
    pub(super) outgoing: Outgoing,
}

impl Opened {
    fn new(posted: Posted, way: Option<Way>) -> Self {
        Opened { sending: posted.streams(), outgoing: Outgoing::posted(posted, way) }
    }
}

/// The future of a call with streams: ready once the call is posted.
#[must_use = "a call begins when it is awaited"]
pub struct OpeningCall<S> {
    state: State,
    shape: Option<S>,
    items: Coding,
}

enum State {
    Ready(Result<Opened, Status>),
    /// Waits for a session of a pool.
    Waiting(Boxed<Result<Opened, Status>>),
    /// Goes through layers.
    Layered(Layered),
    Over,
}

impl<S: Streaming> OpeningCall<S> {
    pub(super) fn new(
        route: Route,
        layers: Option<CallLayers>,
        request: Result<Request, Status>,
        shape: S,
    ) -> Self {
        let items = request.as_ref().map_or(Coding::Plain, |request| request.body.coding);
        let state = match (request, layers) {
            (Ok(request), Some(layers)) => {
                let outbound = Outbound::new(request, S::SHAPE);
                State::Layered(Layered::new(layers, route, outbound))
            }
            (Ok(request), None) => Self::post(route, request),
            (Err(status), _) => State::Ready(Err(status)),
        };
        OpeningCall { state, shape: Some(shape), items }
    }

    fn post(route: Route, request: Request) -> State {
        // A stream of items cannot be sent again.
        let keeps = S::SHAPE == CallShape::ServerStreaming;
        match route.post_now(request, keeps) {
            Ok((posted, way)) => State::Ready(Ok(Opened::new(posted, way))),
            Err(NotPosted::Failed(status)) => State::Ready(Err(status)),
            Err(NotPosted::Waits(trip)) => State::Waiting(Boxed::new(async move {
                let (posted, way) = trip.post(keeps).await?;
                Ok(Opened::new(posted, way))
            })),
        }
    }
}

// The shape is never pinned.
impl<S> Unpin for OpeningCall<S> {}

impl<S: Streaming> Future for OpeningCall<S> {
    type Output = Result<S::Handles, S::Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waited =
            match &mut self.state {
                State::Waiting(waiting) => Some(ready!(waiting.poll(cx))),
                State::Layered(layered) => match ready!(layered.poll_posted(cx)) {
                    Ok(()) => None,
                    // The layers have answered themselves.
                    Err(end) => Some(end.map(|reply| Opened {
                        sending: Streams::over(),
                        outgoing: Outgoing::ended(Ok(reply)),
                    })),
                },
                State::Ready(_) | State::Over => None,
            };
        let opened = match (waited, mem::replace(&mut self.state, State::Over)) {
            (Some(opened), _) | (None, State::Ready(opened)) => opened,
            (None, State::Layered(layered)) => Ok(Opened {
                sending: layered.streams().unwrap_or_else(Streams::over),
                outgoing: Outgoing::layered(layered),
            }),
            (None, State::Waiting(_) | State::Over) => return Poll::Pending,
        };
        let Some(shape) = self.shape.take() else { return Poll::Pending };
        Poll::Ready(match opened {
            Ok(opened) => Ok(shape.handles(opened, self.items)),
            Err(status) => Err(shape.failure(status)),
        })
    }
}

impl<S> fmt::Debug for OpeningCall<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpeningCall").finish_non_exhaustive()
    }
}
