//! [`Layered`]: a call under way with layers around it.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use getty_core::rpc::Request;

use crate::rpc::boxed::Boxed;
use crate::rpc::call_layer::{CallLayers, CallNext, CallShape, Outbound};
use crate::rpc::dispatch::Response;
use crate::rpc::entry::Item;
use crate::rpc::outgoing::Outgoing;
use crate::rpc::posted::{Reads, Streams};
use crate::rpc::route::Route;

/// A call whose layers are a future. Its reader polls that, and reads the items itself: the end of the call
/// goes back through the layers.
pub(super) struct Layered {
    layers: Boxed<Response>,
    stage: Arc<Stage>,
    /// The streams, once the call was posted and, for a call that may move, its first item has come.
    streams: Option<Streams>,
}

impl Layered {
    pub(super) fn new(layers: CallLayers, route: Route, outbound: Outbound) -> Self {
        let stage = Arc::new(Stage::default());
        let inside = Inside { route, shape: outbound.shape(), stage: stage.clone() };
        let layers = Boxed::new(async move { CallNext::new(&layers, &inside).run(outbound).await });
        Layered { layers, stage, streams: None }
    }

    /// Polls until the call is posted or over.
    pub(super) fn poll_posted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Response>> {
        if let Poll::Ready(end) = self.layers.poll(cx) {
            return Poll::Ready(Err(end));
        }
        let mut state = self.stage.lock();
        if !state.is_posted {
            return Poll::Pending;
        }
        self.streams = state.streams.take();
        Poll::Ready(Ok(()))
    }

    /// The streams, if the call stays with its session.
    pub(super) fn streams(&self) -> Option<Streams> {
        self.streams.clone()
    }

    /// The next item, or the end that the layers have made of the call's.
    pub(super) fn poll(&mut self, reads: Reads, cx: &mut Context<'_>) -> Poll<Item> {
        loop {
            if let Poll::Ready(end) = self.layers.poll(cx) {
                return Poll::Ready(Item::Over(end));
            }
            let mut state = self.stage.lock();
            if let Some(streams) = state.streams.take() {
                self.streams = Some(streams);
            }
            if let Some(item) = state.first_item.take() {
                return Poll::Ready(item);
            }
            drop(state);
            let Some(streams) = &self.streams else { return Poll::Pending };
            match streams.poll(reads, cx) {
                Poll::Ready(Item::Over(end)) => {
                    self.streams = None;
                    self.stage.end(end);
                }
                polled => return polled,
            }
        }
    }
}

/// Where the reader of a call meets the innermost part of the layers' future.
#[derive(Default)]
struct Stage(Mutex<StageState>);

#[derive(Default)]
struct StageState {
    is_posted: bool,
    /// For the reader.
    streams: Option<Streams>,
    first_item: Option<Item>,
    /// For the layers, and the waker of their innermost part.
    end: Option<Response>,
    waker: Option<Waker>,
}

impl Stage {
    fn lock(&self) -> MutexGuard<'_, StageState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports that the call was posted. Its streams are known if it stays there.
    fn post(&self, streams: Option<Streams>) {
        let mut state = self.lock();
        state.is_posted = true;
        state.streams = streams;
    }

    /// Hands the first item over to the reader, who reads the others itself.
    fn begin(&self, first: Item, streams: Option<Streams>) {
        let mut state = self.lock();
        state.first_item = Some(first);
        state.streams = streams;
    }

    /// Hands the end that was read over to the layers.
    fn end(&self, end: Response) {
        let mut state = self.lock();
        state.end = Some(end);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Waits for the end of the call.
    fn poll_end(&self, cx: &mut Context<'_>) -> Poll<Response> {
        let mut state = self.lock();
        if let Some(end) = state.end.take() {
            return Poll::Ready(end);
        }
        let before = state.waker.replace(cx.waker().clone());
        drop(state);
        drop(before);
        Poll::Pending
    }
}

/// The innermost part of a call: what is inside all layers.
pub(super) struct Inside {
    route: Route,
    shape: CallShape,
    stage: Arc<Stage>,
}

impl Inside {
    /// Makes the call, and waits for its end.
    pub(super) async fn call(&self, request: Request) -> Response {
        match self.shape {
            CallShape::Unary | CallShape::OneWay => {
                let mut outgoing = Outgoing::begin(self.route.clone(), request, Reads::Answer);
                poll_fn(|cx| outgoing.poll_answer(cx)).await
            }
            CallShape::ServerStreaming => {
                let (posted, way) = self.route.clone().post(request, true).await?;
                self.stage.post(None);
                let mut outgoing = Outgoing::posted(posted, way);
                let first = match poll_fn(|cx| outgoing.poll(Reads::Items, cx)).await {
                    Item::Over(end) => return end,
                    item => item,
                };
                self.stage.begin(first, outgoing.streams());
                // The call lasts until `outgoing` is dropped.
                poll_fn(|cx| self.stage.poll_end(cx)).await
            }
            CallShape::ClientStreaming | CallShape::BidiStreaming => {
                let (posted, _) = self.route.clone().post(request, false).await?;
                self.stage.post(Some(posted.streams()));
                // The call lasts until `posted` is dropped.
                poll_fn(|cx| self.stage.poll_end(cx)).await
            }
        }
    }
}
