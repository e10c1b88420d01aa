//! `getty connect`: standard input and output as a session.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::{BufMut, Bytes, BytesMut};
use clap::Args;
use futures_core::Stream;
use futures_sink::Sink;
use getty_tokio::core::codec::{Decoder, Encoder, LengthDelimited, Raw};
use getty_tokio::core::{Close, CloseReason};
use getty_tokio::{Client, Connection};
use tokio::time::{Instant, sleep_until};

use crate::codec::{Codec, CodecOptions, Lines, explain};
use crate::stdio::{self, Cut, Output};
use crate::url::{Transport, Url};
use crate::{serve, units};

/// Send lines of standard input as messages, print messages that come
///
/// Each line is sent as one message, without its line end; each message received is printed on a line. At the
/// end of standard input this goes on until the peer closes or nothing came for --wait seconds, then closes.
///
/// With --codec raw nothing is cut or added, either way: standard input is sent as it is, line ends included,
/// and what comes is printed as it is.
///
/// The exit code is 0 after a clean close, otherwise 1, with the reason on standard error.
#[derive(Debug, Args)]
pub struct Options {
    /// What to connect to: tcp://HOST:PORT, IPv6 addresses in brackets
    url: Url,

    #[command(flatten)]
    codec: CodecOptions,

    /// At the end of standard input, how long to wait for more messages
    #[arg(long, value_name = "SECS", default_value = "1", value_parser = units::seconds)]
    wait: Duration,

    /// Sends back what is received until the peer closes; standard input and output are not used
    #[arg(long, conflicts_with = "wait")]
    echo: bool,
}

/// How many bytes may wait to be printed before receiving waits.
const UNPRINTED: usize = 64 * 1024;

const UNSENT: &str = "closed by the peer before everything was sent";

pub fn run(options: Options) -> anyhow::Result<()> {
    serve::tokio_runtime(Some(1))?.block_on(async {
        match options.codec.codec {
            Codec::Length => connect(&options, LengthDelimited::new()).await,
            Codec::Lines => connect(&options, Lines::new()).await,
            Codec::Raw => connect(&options, Raw).await,
        }
    })
}

async fn connect<C>(options: &Options, codec: C) -> anyhow::Result<()>
where
    C: Decoder<Item = Bytes> + Encoder<Bytes> + 'static,
{
    let config = options.codec.config().build()?;
    let client = Client::builder().config(config);
    let connection = match options.url.transport {
        Transport::Tcp => client.tcp_connection(&options.url.address, codec).await?,
    };
    if options.echo {
        return echo(connection).await.with_context(|| options.url.to_string());
    }
    talk(options, connection).await
}

/// Sends back what comes.
async fn echo<C>(mut connection: Connection<C, Bytes>) -> anyhow::Result<()>
where
    C: Decoder<Item = Bytes> + Encoder<Bytes>,
{
    while let Some(message) = connection.recv().await.map_err(ended)? {
        // It is refused only when the session is closing, which is told by the next call.
        let _ = connection.feed(message).await;
    }
    close(connection).await
}

/// Moves messages between standard input, the connection and standard output.
async fn talk<C>(options: &Options, mut connection: Connection<C, Bytes>) -> anyhow::Result<()>
where
    C: Decoder<Item = Bytes> + Encoder<Bytes>,
{
    let cut = if options.codec.codec == Codec::Raw { Cut::Nowhere } else { Cut::Lines };
    let mut input = stdio::input(cut, options.codec.max_message as usize);
    let mut output = Output::new();
    let mut talk = Talk { cut, unsent: VecDeque::new(), unprinted: BytesMut::new() };
    let (mut input_ended, mut input_error) = (false, None);
    // When something last happened that makes more messages likely, and how many bytes had come by then.
    let (mut active, mut received) = (Instant::now(), 0);
    let end = loop {
        let quiet = input_ended && talk.is_idle() && connection.stats().queued == 0;
        tokio::select! {
            moved = poll_fn(|cx| talk.poll(&mut connection, cx)) => match moved {
                Moved::Messages => (active, received) = (Instant::now(), connection.stats().received.bytes),
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
            () = sleep_until(active + options.wait), if quiet => {
                let bytes = connection.stats().received.bytes;
                if bytes == received {
                    break End::Us;
                }
                (active, received) = (Instant::now(), bytes); // a part of a message came
            }
        }
    };
    output.send(talk.unprinted.freeze()).await;
    let result = match end {
        End::Peer(Some(reason)) => Err(ended(reason)),
        End::Peer(None) if !talk.unsent.is_empty() || !input.is_empty() => Err(anyhow!(UNSENT)),
        _ => close(connection).await,
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
struct Talk {
    cut: Cut,
    unsent: VecDeque<Bytes>,
    unprinted: BytesMut,
}

/// What came of moving messages.
enum Moved {
    /// Some were moved, or the last of them has left.
    Messages,
    /// No more will come; if the session did not end cleanly, for this reason.
    End(Option<CloseReason>),
}

impl Talk {
    fn is_idle(&self) -> bool {
        self.unsent.is_empty() && self.unprinted.is_empty()
    }

    /// Moves messages both ways, as many as there is room for.
    fn poll<C>(&mut self, connection: &mut Connection<C, Bytes>, cx: &mut Context<'_>) -> Poll<Moved>
    where
        C: Decoder<Item = Bytes> + Encoder<Bytes>,
    {
        let mut connection = Pin::new(connection);
        let flushing = connection.stats().queued > 0;
        let mut moved = false;
        while self.unprinted.len() < UNPRINTED {
            match connection.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => self.print(&message),
                Poll::Ready(end) => return Poll::Ready(Moved::End(end.and_then(Result::err))),
                Poll::Pending => break,
            }
            moved = true;
        }
        while !self.unsent.is_empty() && connection.as_mut().poll_ready(cx).is_ready() {
            if let Some(message) = self.unsent.pop_front() {
                // It is refused only when the session is closing, which is told when receiving.
                let _ = connection.as_mut().start_send(message);
            }
            moved = true;
        }
        if self.unprinted.len() >= UNPRINTED {
            let _ = connection.as_mut().poll_flush(cx); // receiving, which also does this, waits
        }
        // The peer's time to answer begins when it has everything.
        let flushed = flushing && connection.stats().queued == 0;
        if moved || flushed { Poll::Ready(Moved::Messages) } else { Poll::Pending }
    }

    fn print(&mut self, message: &Bytes) {
        self.unprinted.put_slice(message);
        if self.cut == Cut::Lines {
            self.unprinted.put_u8(b'\n');
        }
    }
}

/// Closes gracefully.
async fn close<C>(mut connection: Connection<C, Bytes>) -> anyhow::Result<()>
where
    C: Decoder<Item = Bytes> + Encoder<Bytes>,
{
    let reason = connection.close(Close::graceful()).await;
    if !reason.is_clean() {
        return Err(ended(reason));
    }
    // That the peer closed is clean in itself, but it may have done so before it took everything.
    let progress = connection.stats().progress;
    if progress.flushed < progress.accepted { Err(anyhow!(UNSENT)) } else { Ok(()) }
}

fn ended(reason: CloseReason) -> anyhow::Error {
    anyhow!(explain(&reason))
}
