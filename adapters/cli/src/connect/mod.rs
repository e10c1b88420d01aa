//! `getty connect`: standard input and output as a session.

mod talk;

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::Args;
use getty_driver::{ClientBuilder, Connection};
use getty_tokio::core::codec::{Decoder, Encoder, LengthDelimited, Raw};
use getty_tokio::core::websocket::Packages;
use getty_tokio::core::{Close, CloseReason, StreamProtocol};
use getty_tokio::{Client, Items, TcpStream, Tokio};

use crate::codec::{Codec, CodecOptions, Lines};
use crate::explain::explain;
use crate::payload::Payload;
use crate::url::{Transport, Url};
use crate::websocket::WebSocketOptions;
use crate::{serve, units};
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
    /// What to connect to: tcp://HOST:PORT or ws://HOST:PORT/PATH?QUERY, IPv6 addresses in brackets
    url: Url,

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
    serve::tokio_runtime(Some(1))?.block_on(connect(&options))
}

async fn connect(options: &Options) -> anyhow::Result<()> {
    match options.codec.codec(options.url.transport) {
        None => {
            let request = options.websocket.request(&options.url)?;
            converse(options, options.client()?.websocket_connection(request).await?).await
        }
        Some(Codec::Length) => connect_with(options, LengthDelimited::new()).await,
        Some(Codec::Lines) => connect_with(options, Lines::new(options.codec.size.limit())).await,
        Some(Codec::Raw) => connect_with(options, Raw).await,
    }
}

async fn connect_with<C>(options: &Options, codec: C) -> anyhow::Result<()>
where
    C: Decoder<Item = Bytes> + Encoder<Bytes> + 'static,
{
    let client = options.client()?;
    match options.url.transport {
        Transport::Tcp => converse(options, client.tcp_connection(options.url.address(), codec).await?).await,
        Transport::WebSocket => {
            let (request, codec) = (options.websocket.request(&options.url)?, Packages::new(codec));
            converse(options, client.websocket_connection_of(request, codec).await?).await
        }
    }
}

impl Options {
    fn client(&self) -> anyhow::Result<ClientBuilder<Tokio>> {
        let config = self.codec.config(self.url.transport).heartbeat_period(self.websocket.ping);
        Ok(Client::builder().config(config.build()?))
    }
}

async fn converse<P, M>(
    options: &Options,
    mut connection: Connection<Tokio, TcpStream, P>,
) -> anyhow::Result<()>
where
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
async fn echo<P, M>(mut connection: Connection<Tokio, TcpStream, P>) -> anyhow::Result<()>
where
    P: StreamProtocol<Messages = Items<M>>,
{
    while let Some(message) = connection.recv().await.map_err(ended)? {
        // It is refused only when the session is closing, which is told by the next call.
        let _ = connection.feed(message).await;
    }
    close(connection).await
}

/// Closes gracefully.
async fn close<P: StreamProtocol>(mut connection: Connection<Tokio, TcpStream, P>) -> anyhow::Result<()> {
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
