//! [`Peer`]: the other end of a conversation, over whichever transport.

use futures_core::Stream;
use futures_sink::Sink;
use getty_driver::core::{Close, CloseReason, Stats, StreamProtocol};
use getty_driver::{Connection, Io, Items, Runtime};

/// The other end of a conversation.
pub trait Peer<M>: Stream<Item = Result<M, CloseReason>> + Sink<M> + Unpin {
    fn stats(&self) -> Stats;

    /// Closes gracefully. Gives why it ended, and all that was done.
    async fn close(self) -> (CloseReason, Stats);
}

impl<R, I, P, M> Peer<M> for Connection<R, I, P>
where
    R: Runtime,
    I: Io,
    P: StreamProtocol<Messages = Items<M>>,
{
    fn stats(&self) -> Stats {
        Connection::stats(self)
    }

    async fn close(mut self) -> (CloseReason, Stats) {
        let reason = Connection::close(&mut self, Close::graceful()).await;
        (reason, Connection::stats(&self))
    }
}
