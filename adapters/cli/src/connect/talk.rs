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

/// How many bytes may wait to be printed before receiving waits.
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
    // When something last happened that makes more messages likely, and how many bytes had come by then.
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
                    active = Instant::now(); // there may be messages that had no room until now
                }
                Err(_) => break End::Us, // nobody reads what is printed
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
                // A part of a message is something; pings and pongs, which are never in part, are not.
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

/// Why a conversation is over.
enum End {
    /// There is nothing more to do, or to do it with.
    Us,
    /// The peer ended it; if not cleanly, for this reason.
    Peer(Option<CloseReason>),
}

/// What is on its way.
struct Talk<M> {
    cut: Cut,
    unsent: VecDeque<M>,
    unprinted: BytesMut,
}

/// What came of moving messages.
enum Moved {
    /// Some were moved, or the last of them has left.
    Messages,
    /// No more will come; if the session did not end cleanly, for this reason.
    End(Option<CloseReason>),
}

impl<M: Payload> Talk<M> {
    fn is_idle(&self) -> bool {
        self.unsent.is_empty() && self.unprinted.is_empty()
    }

    /// Moves messages both ways, as many as there is room for.
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
        // A peer that waits for us to receive is no failure: it waits until there is room to print.
        while !self.unsent.is_empty() && !waits::<M, P>(&peer.as_mut().poll_ready(cx)) {
            if let Some(message) = self.unsent.pop_front() {
                // It is refused only when the session is closing, which is told when receiving.
                let _ = peer.as_mut().start_send(message);
            }
            moved = true;
        }
        if self.unprinted.len() >= UNPRINTED {
            let _ = peer.as_mut().poll_flush(cx); // receiving, which also does this, waits
        }
        // The peer's time to answer begins when it has everything.
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

/// Whether nothing can be sent now.
fn waits<M, P: Peer<M>>(ready: &Poll<Result<(), P::Error>>) -> bool {
    match ready {
        Poll::Pending => true,
        Poll::Ready(ready) => ready.as_ref().is_err_and(P::peer_waits),
    }
}
