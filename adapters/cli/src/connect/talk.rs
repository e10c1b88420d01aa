//! A conversation between standard input and output and a peer.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use bytes::{BufMut, Bytes, BytesMut};
use getty_driver::core::CloseReason;

use super::peer::Peer;
use super::{Options, UNSENT, close, ended};
use crate::codec::Codec;
use crate::payload::Payload;
use crate::runtime::{BuiltIn, sleep_until};
use crate::stdio::{self, Cut, Output};
use crate::url::Transport;

/// Bytes that may wait to be printed before receiving pauses.
pub const UNPRINTED: usize = 64 * 1024;

/// Moves messages between standard input, the peer and standard output.
pub async fn talk<R: BuiltIn, M: Payload>(options: &Options, mut peer: impl Peer<M>) -> anyhow::Result<()> {
    let transport = options.url.transport;
    let bytes = options.codec.codec == Some(Codec::Raw) && transport != Transport::Udp;
    let cut = if bytes { Cut::Nowhere } else { Cut::Lines };
    let mut input = stdio::input(cut, options.codec.sendable(transport));
    let mut output = Output::new();
    let mut talk = Talk { cut, unsent: VecDeque::new(), unprinted: BytesMut::new() };
    let (mut input_ended, mut input_error) = (false, None);
    // The last activity that makes more messages likely, and the bytes received by then.
    let (mut active, mut received) = (Instant::now(), 0);
    let end = loop {
        let quiet = input_ended && talk.is_idle() && peer.stats().queued == 0;
        tokio::select! {
            moved = poll_fn(|cx| talk.poll(&mut peer, cx)) => match moved {
                Moved::Messages => (active, received) = (Instant::now(), peer.stats().received.bytes),
                Moved::End(reason) => break End::Peer(reason),
            },
            permit = output.sender.reserve(), if !talk.unprinted.is_empty() => match permit {
                Ok(permit) => {
                    permit.send(talk.unprinted.split().freeze());
                    active = Instant::now(); // messages that had no room may come now
                }
                Err(_) => break End::Us, // standard output has no reader left
            },
            batch = input.recv(), if talk.unsent.is_empty() && !input_ended => match batch {
                Some(Ok(messages)) => talk.unsent = messages,
                Some(Err(error)) => {
                    input_error = Some(error);
                    break End::Us;
                }
                None => (active, input_ended) = (Instant::now(), true),
            },
            () = sleep_until::<R>(active + options.wait), if quiet => {
                // Part of a message counts as activity. Pings and pongs never arrive in part and do not
                // count.
                let stats = peer.stats();
                if stats.received.bytes == received || stats.buffered == 0 {
                    break End::Us;
                }
                (active, received) = (Instant::now(), stats.received.bytes);
            }
        }
    };
    output.send(talk.unprinted.freeze()).await;
    let result = match end {
        End::Peer(Some(reason)) => Err(ended(options, &reason)),
        End::Peer(None) if !talk.unsent.is_empty() || !input.is_empty() => Err(anyhow!(UNSENT)),
        _ => close(options, peer).await,
    };
    output.finish().context("can't write to standard output")?;
    match input_error {
        None => result.with_context(|| options.url.to_string()),
        Some(error) => bail!(error),
    }
}

/// The cause of a conversation's end.
enum End {
    /// Nothing is left to do, or standard output is closed.
    Us,
    /// The peer ended it. Has a reason if that was not clean.
    Peer(Option<CloseReason>),
}

/// The messages in transit.
struct Talk<M> {
    cut: Cut,
    unsent: VecDeque<M>,
    unprinted: BytesMut,
}

/// The result of moving messages.
enum Moved {
    /// Some were moved, or the last queued one was sent.
    Messages,
    /// No more will come. Has a reason if the session did not end cleanly.
    End(Option<CloseReason>),
}

impl<M: Payload> Talk<M> {
    fn is_idle(&self) -> bool {
        self.unsent.is_empty() && self.unprinted.is_empty()
    }

    /// Moves as many messages both ways as there is room for.
    fn poll<P: Peer<M>>(&mut self, peer: &mut P, cx: &mut Context<'_>) -> Poll<Moved> {
        let mut peer = Pin::new(peer);
        let flushing = peer.stats().queued > 0;
        let mut moved = false;
        while self.unprinted.len() < UNPRINTED {
            match peer.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => self.print(message.bytes()),
                Poll::Ready(end) => return Poll::Ready(Moved::End(end.and_then(Result::err))),
                Poll::Pending => break,
            }
            moved = true;
        }
        // A peer that waits for us to receive is not a failure: sending goes on once there is room to print.
        while !self.unsent.is_empty() && !waits::<M, P>(&peer.as_mut().poll_ready(cx)) {
            if let Some(message) = self.unsent.pop_front() {
                // Refused only when the session is closing; receiving reports that.
                let _ = peer.as_mut().start_send(message);
            }
            moved = true;
        }
        if self.unprinted.len() >= UNPRINTED {
            let _ = peer.as_mut().poll_flush(cx); // receiving flushes too, and waits
        }
        // The time for the peer's replies starts once everything is sent.
        let flushed = flushing && peer.stats().queued == 0;
        if moved || flushed { Poll::Ready(Moved::Messages) } else { Poll::Pending }
    }

    fn print(&mut self, message: &Bytes) {
        self.unprinted.put_slice(message);
        if self.cut == Cut::Lines {
            self.unprinted.put_u8(b'\n');
        }
    }
}

/// Whether sending has to wait.
fn waits<M, P: Peer<M>>(ready: &Poll<Result<(), P::Error>>) -> bool {
    match ready {
        Poll::Pending => true,
        Poll::Ready(ready) => ready.as_ref().is_err_and(P::peer_waits),
    }
}
