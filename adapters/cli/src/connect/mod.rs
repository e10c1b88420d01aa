//! `getty connect`: standard input and output as a session.

mod talk;

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::Args;
use getty_driver::core::codec::{Decoder, Encoder, LengthDelimited, Raw};
use getty_driver::core::websocket::Packages;
use getty_driver::core::{Close, CloseReason, StreamProtocol};
use getty_driver::{ClientBuilder, Connection, Io, Items};

use crate::codec::{Codec, CodecOptions, Lines};
use crate::explain::explain;
use crate::payload::Payload;
use crate::runtime::{BuiltIn, RuntimeName, client, on_runtime};
use crate::units;
use crate::url::{Transport, Url};
use crate::websocket::WebSocketOptions;
use talk::talk;

/// Send lines of standard input as messages, print messages that come
///
/// Each line is sent as one message, without its line end; each message received is printed on a line. At the
/// end of standard input this goes on until the peer closes or nothing came for --wait seconds, then closes.
///
/// With --codec raw nothing is cut or added, either way: standard input is sent as it is, line ends included,
/// and what comes is printed as it is.
///
/// Over ws a line is sent as a text message, which must be UTF-8, and messages of both kinds are printed.
///
/// The exit code is 0 after a clean close, otherwise 1, with the reason on standard error.
#[derive(Debug, Args)]
pub struct Options {
    /// What to connect to: tcp://HOST:PORT, unix:///PATH or ws://HOST:PORT/PATH?QUERY, IPv6 addresses in brackets
    url: Url,

    /// What runs the session
    #[arg(long, value_enum, default_value_t = RuntimeName::Tokio)]
    runtime: RuntimeName,

    #[command(flatten)]
    codec: CodecOptions,

    /// At the end of standard input, how long to wait for more messages
    #[arg(long, value_name = "SECS", default_value = "1", value_parser = units::seconds)]
    wait: Duration,

    /// Sends back what is received until the peer closes; standard input and output are not used
    #[arg(long, conflicts_with = "wait")]
    echo: bool,

    #[command(flatten)]
    websocket: WebSocketOptions,
}

const UNSENT: &str = "closed by the peer before everything was sent";

impl Options {
    /// Checks what can't be seen from one option alone.
    pub fn check(&self) -> Result<(), String> {
        self.websocket.check([&self.url])
    }
}

pub fn run(options: Options) -> anyhow::Result<()> {
    on_runtime!(options.runtime, run_on(&options))
}

fn run_on<R: BuiltIn>(options: &Options) -> anyhow::Result<()> {
    R::block_on(1, connect::<R>(options))?
}

async fn connect<R: BuiltIn>(options: &Options) -> anyhow::Result<()> {
    match options.codec.codec(options.url.transport) {
        None => {
            let request = options.websocket.request(&options.url)?;
            converse(options, options.client::<R>()?.websocket_connection(request).await?).await
        }
        Some(Codec::Length) => connect_with::<R, _>(options, LengthDelimited::new()).await,
        Some(Codec::Lines) => connect_with::<R, _>(options, Lines::new(options.codec.size.limit())).await,
        Some(Codec::Raw) => connect_with::<R, _>(options, Raw).await,
    }
}

async fn connect_with<R, C>(options: &Options, codec: C) -> anyhow::Result<()>
where
    R: BuiltIn,
    C: Decoder<Item = Bytes> + Encoder<Bytes> + 'static,
{
    let client = options.client::<R>()?;
    let address = options.url.address();
    match options.url.transport {
        Transport::Tcp => converse(options, client.tcp_connection(address, codec).await?).await,
        #[cfg(unix)]
        Transport::Unix => converse(options, client.unix_connection(address, codec).await?).await,
        Transport::Udp => anyhow::bail!("not yet"),
        Transport::WebSocket => {
            let (request, codec) = (options.websocket.request(&options.url)?, Packages::new(codec));
            converse(options, client.websocket_connection_of(request, codec).await?).await
        }
    }
}

impl Options {
    fn client<R: BuiltIn>(&self) -> anyhow::Result<ClientBuilder<R>> {
        let config = self.codec.config(self.url.transport).heartbeat_period(self.websocket.ping);
        Ok(client::<R>().config(config.build()?))
    }
}

async fn converse<R, I, P, M>(options: &Options, mut connection: Connection<R, I, P>) -> anyhow::Result<()>
where
    R: BuiltIn,
    I: Io,
    P: StreamProtocol<Messages = Items<M>>,
    M: Payload,
{
    let opened = connection.opened().await.map_err(ended);
    opened.with_context(|| options.url.to_string())?;
    if options.echo {
        return echo(connection).await.with_context(|| options.url.to_string());
    }
    talk(options, connection).await
}

/// Sends back what comes.
async fn echo<R, I, P, M>(mut connection: Connection<R, I, P>) -> anyhow::Result<()>
where
    R: BuiltIn,
    I: Io,
    P: StreamProtocol<Messages = Items<M>>,
{
    while let Some(message) = connection.recv().await.map_err(ended)? {
        // It is refused only when the session is closing, which is told by the next call.
        let _ = connection.feed(message).await;
    }
    close(connection).await
}

/// Closes gracefully.
async fn close<R, I, P>(mut connection: Connection<R, I, P>) -> anyhow::Result<()>
where
    R: BuiltIn,
    I: Io,
    P: StreamProtocol,
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
