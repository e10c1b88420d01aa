//! [`Peer`]: the other end of a conversation, over any transport.

use futures_core::Stream;
use futures_sink::Sink;
use getty_driver::core::{Close, CloseReason, Protocol, Stats};
use getty_driver::{Connection, Io, Items, Runtime, SinkError};

/// The other end of a conversation.
pub trait Peer<M>: Stream<Item = Result<M, CloseReason>> + Sink<M> + Unpin {
    fn stats(&self) -> Stats;

    /// Whether sending failed only because the peer waits for us to receive.
    fn peer_waits(_error: &Self::Error) -> bool {
        false
    }

    /// Closes gracefully. Returns the reason of the end and the final statistics.
    async fn close(self) -> (CloseReason, Stats);
}

impl<R, I, P, M> Peer<M> for Connection<R, I, P>
where
    R: Runtime,
    I: Io,
    P: Protocol<Messages = Items<M>>,
{
    fn stats(&self) -> Stats {
        Connection::stats(self)
    }

    fn peer_waits(error: &Self::Error) -> bool {
        matches!(error, SinkError::PeerWaits)
    }

    async fn close(mut self) -> (CloseReason, Stats) {
        let reason = Connection::close(&mut self, Close::graceful()).await;
        (reason, Connection::stats(&self))
    }
}
