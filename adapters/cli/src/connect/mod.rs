//! `getty connect`: standard input and output as a session.

mod datagrams;
mod peer;
mod talk;

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use getty_driver::core::codec::{Decoder, Encoder, LengthDelimited, Raw};
use getty_driver::core::websocket::{Packages, Whole};
use getty_driver::core::{CloseReason, Protocol};
use getty_driver::tls::ClientTls;
use getty_driver::{ClientBuilder, Connection, Framed, Io, Items};

use crate::codec::{Codec, CodecOptions, Lines};
use crate::explain::{explain_at_client, explain_unopened};
use crate::payload::Payload;
use crate::runtime::{BuiltIn, RuntimeName, Spawner, client, on_runtime};
use crate::tls::ClientTlsOptions;
use crate::units;
use crate::url::{Transport, Url};
use crate::websocket::WebSocketOptions;
use datagrams::Datagrams;
use peer::Peer;
use talk::{UNPRINTED, talk};

/// Send lines of standard input as messages and print received messages
///
/// Each line is sent as one message, without its line end; each received message is printed on a line. At the
/// end of standard input, the program waits until the peer closes or no message came for --wait seconds, then
/// closes.
///
/// With --codec raw nothing is cut or added in either direction: standard input is sent as it is, line ends
/// included, and received bytes are printed as they are.
///
/// Over ws and wss each line is sent as a text message, which must be UTF-8; both text and binary are
/// printed.
///
/// Over udp each line is sent as a datagram and each datagram is printed on a line, also with --codec raw,
/// the default there. Datagrams may be lost, duplicated or reordered. Known losses, such as a peer that is
/// not listening, are reported on standard error and do not count as failures.
///
/// tls is tcp over TLS, and wss is ws over TLS. The server's certificate must be valid for the URL's host and
/// signed by an authority that the system trusts; see --ca and --server-name for exceptions.
///
/// The exit code is 0 after a clean close, and 1 otherwise, with the reason on standard error.
#[derive(Debug, Args)]
pub struct Options {
    /// The server: tcp://HOST:PORT, unix:///PATH, udp://HOST:PORT, ws://HOST:PORT/PATH?QUERY, tls://HOST:PORT
    /// or wss://HOST:PORT/PATH?QUERY. IPv6 addresses go in brackets, with a zone where needed: [fe80::1%eth0]
    url: Url,

    /// Runtime of the session
    #[arg(long, value_enum, default_value_t = RuntimeName::Tokio)]
    runtime: RuntimeName,

    #[command(flatten)]
    codec: CodecOptions,

    /// Time to wait for more messages at the end of standard input
    #[arg(long, value_name = "SECS", default_value = "1", value_parser = units::seconds)]
    wait: Duration,

    /// Sends received messages back until the peer closes; standard input and output are not used
    #[arg(long, conflicts_with = "wait")]
    echo: bool,

    #[command(flatten)]
    websocket: WebSocketOptions,

    #[command(flatten)]
    tls: ClientTlsOptions,
}

const UNSENT: &str = "the peer closed before everything was sent";

impl Options {
    /// Checks that the options fit each other.
    pub fn check(&self) -> Result<(), String> {
        self.url.check_target()?;
        self.websocket.check([&self.url])?;
        self.tls.check(&self.url)
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
            let (client, request) = (options.client::<R>()?, options.websocket.request(&options.url)?);
            converse(options, client.websocket_connection(request, Whole).await?).await
        }
        Some(Codec::Length) => connect_with::<R, _>(options, LengthDelimited::new()).await,
        Some(Codec::Lines) => connect_with::<R, _>(options, Lines::new(options.codec.size.limit())).await,
        Some(Codec::Raw) => connect_with::<R, _>(options, Raw).await,
    }
}

async fn connect_with<R, C>(options: &Options, codec: C) -> anyhow::Result<()>
where
    R: BuiltIn,
    C: Decoder<Item = Bytes> + Encoder<Bytes> + Send + 'static,
{
    let client = options.client::<R>()?;
    let address = options.url.address();
    match options.url.transport {
        Transport::Tcp | Transport::Tls => {
            converse(options, client.tcp_connection(address, Framed::new(codec)).await?).await
        }
        #[cfg(unix)]
        Transport::Unix => {
            converse(options, client.unix_connection(address, Framed::new(codec)).await?).await
        }
        Transport::Udp => {
            converse_with::<R, _>(options, Datagrams::connect(client, &options.url, codec).await?).await
        }
        Transport::WebSocket | Transport::SecureWebSocket => {
            let request = options.websocket.request(&options.url)?;
            converse(options, client.websocket_connection(request, Packages::new(codec)).await?).await
        }
    }
}

impl Options {
    fn client<R: BuiltIn>(&self) -> anyhow::Result<ClientBuilder<R, Spawner<R>, Option<ClientTls>>> {
        let mut config = self.codec.config(self.url.transport).heartbeat_period(self.websocket.ping);
        if !self.echo {
            // Receiving goes on while there is room to print; messages beyond that should wait at the peer.
            config = config.receive_ahead(UNPRINTED);
        }
        Ok(client::<R>().config(config.build()?).maybe_tls(self.tls.client(&self.url)?))
    }
}

async fn converse<R, I, P, M>(options: &Options, mut connection: Connection<R, I, P>) -> anyhow::Result<()>
where
    R: BuiltIn,
    I: Io,
    P: Protocol<Messages = Items<M>>,
    M: Payload,
{
    let transport = options.url.transport;
    let opened = connection.opened().await.map_err(|reason| anyhow!(explain_unopened(&reason, transport)));
    opened.with_context(|| options.url.to_string())?;
    converse_with::<R, M>(options, connection).await
}

/// Talks to a connected peer.
async fn converse_with<R: BuiltIn, M: Payload>(options: &Options, peer: impl Peer<M>) -> anyhow::Result<()> {
    if options.echo {
        return echo(options, peer).await.with_context(|| options.url.to_string());
    }
    talk::<R, M>(options, peer).await
}

/// Sends received messages back.
async fn echo<M, P: Peer<M>>(options: &Options, mut peer: P) -> anyhow::Result<()> {
    while let Some(message) = peer.next().await.transpose().map_err(|reason| ended(options, &reason))? {
        // If the session is closing, the next call reports it.
        if peer.feed(message).await.is_err_and(|error| P::peer_waits(&error)) {
            bail!("the peer keeps sending but does not read its echoes");
        }
    }
    close(options, peer).await
}

/// Closes gracefully.
async fn close<M>(options: &Options, peer: impl Peer<M>) -> anyhow::Result<()> {
    let (reason, stats) = peer.close().await;
    if !reason.is_clean() {
        return Err(ended(options, &reason));
    }
    // A close by the peer is clean in itself, but the peer may not have received everything.
    let progress = stats.progress;
    if progress.flushed < progress.accepted { Err(anyhow!(UNSENT)) } else { Ok(()) }
}

fn ended(options: &Options, reason: &CloseReason) -> anyhow::Error {
    anyhow!(explain_at_client(reason, options.url.transport))
}
