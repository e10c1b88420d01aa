//! [`Datagrams`]: a peer over UDP.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_sink::Sink;
use getty_driver::core::codec::{Decoder, Encoder};
use getty_driver::core::datagram::Dropped;
use getty_driver::core::{Close, CloseReason, SendError, Stats};
use getty_driver::{ClientBuilder, Context, Handle, Items, Listener, Security};
use tokio::sync::mpsc;

use super::peer::Peer;
use crate::diagnostics;
use crate::explain::explain_dropped;
use crate::runtime::{BuiltIn, Spawner};
use crate::url::Url;

/// Received messages that may wait to be printed before receiving pauses.
const WAITING: usize = 256;

/// A peer over UDP, whose session is a task of its own. Reports dropped datagrams on standard error.
pub struct Datagrams {
    handle: Handle<Bytes>,
    received: mpsc::Receiver<Bytes>,
    full: Arc<AtomicBool>,
    /// The message that waits for room.
    sending: Option<BoxFuture<'static, Result<(), SendError<Bytes>>>>,
}

impl Datagrams {
    pub async fn connect<R, C>(
        client: ClientBuilder<R, Spawner<R>, impl Security>,
        url: &Url,
        codec: C,
    ) -> std::io::Result<Self>
    where
        R: BuiltIn,
        C: Decoder<Item = Bytes> + Encoder<Bytes> + Send + 'static,
    {
        let (sender, received) = mpsc::channel(WAITING);
        let full = Arc::<AtomicBool>::default();
        let inbox = Inbox { url: url.clone(), sender, full: full.clone() };
        let handle = client.udp(url.address(), codec, inbox).await?;
        Ok(Datagrams { handle, received, full, sending: None })
    }
}

impl Stream for Datagrams {
    type Item = Result<Bytes, CloseReason>;

    /// The stream ends when the session has ended; [`Peer::close`] returns the reason.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let next = self.received.poll_recv(cx);
        if next.is_pending() && self.full.swap(false, Ordering::AcqRel) {
            self.handle.resume();
        }
        next.map(|message| message.map(Ok))
    }
}

impl Sink<Bytes> for Datagrams {
    type Error = SendError<Bytes>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        if let Some(sending) = &mut self.sending {
            let sent = ready!(sending.as_mut().poll(cx));
            self.sending = None;
            sent?;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), Self::Error> {
        match self.handle.try_send(message) {
            Err(SendError::Blocked(message)) => {
                let handle = self.handle.clone();
                self.sending = Some(Box::pin(async move { handle.send(message).await }));
                Ok(())
            }
            result => result,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_ready(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_ready(cx)
    }
}

impl Peer<Bytes> for Datagrams {
    fn stats(&self) -> Stats {
        self.handle.stats()
    }

    async fn close(self) -> (CloseReason, Stats) {
        self.handle.close(Close::graceful());
        (self.handle.closed().await, self.handle.stats())
    }
}

/// The listener of the session.
struct Inbox {
    url: Url,
    sender: mpsc::Sender<Bytes>,
    /// Set when the session is paused because the queue is full.
    full: Arc<AtomicBool>,
}

impl Inbox {
    fn report(&self, problem: &str) {
        diagnostics::report(format_args!("{}: {problem}", self.url));
    }
}

impl Listener<Items<Bytes>> for Inbox {
    fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, message: Bytes) {
        if self.sender.capacity() == 1 {
            // Set before the last message is sent: the receiver must see it after taking that message.
            self.full.store(true, Ordering::Release);
            cx.pause();
        }
        let _ = self.sender.try_send(message); // there is room, or the receiver is gone
    }

    fn on_send_error(&mut self, _cx: &mut Context<'_, Items<Bytes>>, error: SendError<Bytes>) {
        self.report(&format!("not sent: {error}"));
    }

    fn on_dropped(&mut self, _cx: &mut Context<'_, Items<Bytes>>, dropped: &Dropped) {
        self.report(&explain_dropped(dropped));
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use futures_util::StreamExt;
    use getty_driver::core::codec::Raw;
    use getty_tokio::Tokio;

    use super::*;
    use crate::runtime::{Executor, client};

    #[test]
    fn a_full_queue_stops_receiving_until_it_is_empty() {
        const MESSAGES: usize = WAITING + 50; // a socket's buffer holds the last ones
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let url: Url = format!("udp://{}", peer.local_addr().unwrap()).parse().unwrap();
        let test = async {
            let mut datagrams = Datagrams::connect(client::<Tokio>(), &url, Raw).await.unwrap();
            let address = datagrams.handle.local_addr().unwrap();
            for sent in 1..=MESSAGES {
                peer.send_to(sent.to_string().as_bytes(), address).unwrap();
                while datagrams.stats().received.messages < sent.min(WAITING) as u64 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            assert_eq!(datagrams.stats().received.messages, WAITING as u64);
            for sent in 1..=MESSAGES {
                assert_eq!(datagrams.next().await.unwrap().unwrap(), sent.to_string());
            }
            assert!(datagrams.close().await.0.is_clean());
        };
        Tokio::block_on(1, async { tokio::time::timeout(Duration::from_secs(30), test).await.unwrap() })
            .unwrap();
    }
}
