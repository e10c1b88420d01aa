//! A [`Connection`] as a `Stream` and a `Sink`.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;
use getty_core::{Close, CloseReason, In, Out, Protocol};

use super::Connection;
use super::error::SinkError;
use super::sending::{Company, PeerWaits};
use crate::runtime::Runtime;
use crate::runtime::io::Io;

impl<R: Runtime, I: Io, P: Protocol> Stream for Connection<R, I, P> {
    type Item = Result<In<P>, CloseReason>;

    /// As [`recv`](Connection::recv), whose `None` ends the stream. An error is returned once.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let next = self.poll_recv(cx).map(Result::transpose);
        self.failed = matches!(next, Poll::Ready(Some(Err(_))));
        next
    }
}

/// Waits as [`feed`](Connection::feed) and [`flush`](Connection::flush) do, with one difference: if another
/// task waits for the `Stream` at the same time, that task receives, and its slowness causes no failure.
impl<R: Runtime, I: Io, P: Protocol> Sink<Out<P>> for Connection<R, I, P> {
    type Error = SinkError<Out<P>>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_room(cx, Company::Perhaps).map_err(|PeerWaits| SinkError::PeerWaits)
    }

    fn start_send(mut self: Pin<&mut Self>, item: Out<P>) -> Result<(), Self::Error> {
        self.accept(item)?;
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Connection::poll_flush(&mut self, cx, Company::Perhaps).map_err(SinkError::from)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_closed(cx, Some(Close::graceful())));
        Poll::Ready(self.closed_cleanly().map_err(SinkError::Closed))
    }
}
