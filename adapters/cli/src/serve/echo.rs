//! [`EchoServer`]: echoes messages over every transport.

#[cfg(unix)]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, select_all};
use getty_driver::core::codec::{Decoder, Encoder, LengthDelimited, Raw};
use getty_driver::core::datagram::Dropped;
use getty_driver::core::websocket::{Accept, OriginPolicy, Packages, Request, Verdict, WebSocket};
use getty_driver::core::{Close, CloseReason, Config, Idle, Opened};
use getty_driver::rpc::health::Health;
use getty_driver::tls::ServerTls;
use getty_driver::{Context, Items, Listener, Refuse, ServerBuilder, SessionInfo, TcpOptions, framed};

use super::limits::LimitOptions;
use super::page::Site;
use super::totals::Totals;
use super::udp::{self, UdpOptions};
use crate::codec::{Codec, CodecOptions, Lines};
use crate::payload::Payload;
use crate::runtime::{BuiltIn, Spawner, server};
use crate::url::{Transport, Url};
use crate::websocket::WebSocketOptions;

/// An echo server on one URL, before it is started.
#[derive(Debug, Clone)]
pub struct EchoServer {
    pub url: Url,
    pub codec: CodecOptions,
    pub config: Arc<Config>,
    pub limits: LimitOptions,
    /// Whether other servers of this program listen on the same port.
    pub shares_port: bool,
    pub udp: UdpOptions,
    /// Number of threads that run the sessions.
    pub threads: usize,
    pub websocket: WebSocketOptions,
    pub origin: OriginPolicy,
    /// Set for tls and wss URLs only.
    pub tls: Option<ServerTls>,
    pub totals: Option<Arc<Totals>>,
    /// The health of the services, with --rpc.
    pub rpc: Option<Health>,
}

impl EchoServer {
    pub async fn start<R: BuiltIn>(self) -> anyhow::Result<Server<R>> {
        if let Some(health) = self.rpc.clone() {
            return self.start_rpc(&health).await;
        }
        let limit = self.codec.size.limit();
        match self.codec.codec(self.url.transport) {
            None => {
                let protocol = WebSocket::serving(self.websocket.server(self.origin.clone()));
                let echo = self.echo()?;
                let starting = self.builder::<R>().tcp(self.url.address(), protocol, move || echo.clone());
                Ok(Server::Port(starting.await?))
            }
            Some(Codec::Length) => self.start_with(LengthDelimited::new).await,
            Some(Codec::Lines) => self.start_with(move || Lines::new(limit)).await,
            Some(Codec::Raw) => self.start_with(|| Raw).await,
        }
    }

    async fn start_with<R, C>(
        self,
        codec: impl Fn() -> C + Clone + Send + 'static,
    ) -> anyhow::Result<Server<R>>
    where
        R: BuiltIn,
        C: Decoder<Item = Bytes> + Encoder<Bytes> + Send + 'static,
    {
        let echo = self.echo()?;
        let listener = move || echo.clone();
        let builder = self.builder::<R>();
        let address = self.url.address();
        Ok(match self.url.transport {
            Transport::Tcp | Transport::Tls => {
                Server::Port(builder.tcp(address, framed(codec), listener).await?)
            }
            #[cfg(unix)]
            Transport::Unix => Server::Path(builder.unix(address, framed(codec), listener)?),
            Transport::Udp => {
                let starting =
                    self.udp.start(&self.url, self.threads, self.config, self.totals, codec, listener);
                Server::Sockets(starting.await?)
            }
            Transport::WebSocket | Transport::SecureWebSocket => {
                let options = self.websocket.server(self.origin);
                let protocol = WebSocket::serving_of(move || Packages::new(codec()), options);
                Server::Port(builder.tcp(address, protocol, listener).await?)
            }
        })
    }

    pub(super) fn builder<R: BuiltIn>(&self) -> ServerBuilder<R, Spawner<R>, Option<ServerTls>> {
        let options = TcpOptions::new();
        #[cfg(target_os = "linux")]
        let options = options.reuse_port(self.shares_port);
        let builder = server::<R>().config(self.config.clone()).limits(self.limits.limits());
        builder.tcp_options(options).maybe_tls(self.tls.clone())
    }

    fn echo(&self) -> anyhow::Result<Echo> {
        let site = match self.url.transport.is_websocket() {
            true => Some(Arc::new(Site::new(self.url.path(), &self.websocket.subprotocol)?)),
            false => None,
        };
        Ok(Echo { transport: self.url.transport, site, totals: self.totals.clone() })
    }
}

/// A running echo server.
pub enum Server<R: BuiltIn> {
    Port(getty_driver::Server<R>),
    /// Several sockets on one port, at least one.
    Sockets(Vec<getty_driver::Server<R>>),
    #[cfg(unix)]
    Path(getty_driver::Server<R, PathBuf>),
}

impl<R: BuiltIn> Server<R> {
    /// The URL of the server, if it was asked to listen on `asked`.
    pub fn url(&self, asked: &Url) -> Url {
        match self {
            Server::Port(server) => asked.at(server.local_addr()),
            Server::Sockets(servers) => asked.at(servers[0].local_addr()),
            #[cfg(unix)]
            Server::Path(_) => asked.clone(),
        }
    }

    /// The number of refused connections, and of failed accepts.
    pub fn refused(&self) -> (u64, u64) {
        let stats = match self {
            Server::Port(server) => server.stats(),
            Server::Sockets(_) => return (0, 0), // UDP has no connections
            #[cfg(unix)]
            Server::Path(server) => server.stats(),
        };
        (stats.refused.total(), stats.failures)
    }

    /// Lists all current sessions.
    pub async fn list(&self) -> Vec<SessionInfo> {
        match self {
            Server::Port(server) => server.list().await,
            Server::Sockets(servers) => join_all(servers.iter().map(|server| server.list())).await.concat(),
            #[cfg(unix)]
            Server::Path(server) => server.list().await,
        }
    }

    /// Waits until the server has ended by itself, and returns the reason.
    pub async fn ended(&self) -> CloseReason {
        match self {
            Server::Port(server) => server.ended().await,
            Server::Sockets(servers) => {
                select_all(servers.iter().map(|server| Box::pin(server.ended()))).await.0
            }
            #[cfg(unix)]
            Server::Path(server) => server.ended().await,
        }
    }

    /// Shuts down. Returns the number of aborted sessions.
    pub async fn shutdown(self, grace: Duration) -> usize {
        match self {
            Server::Port(server) => server.shutdown(grace).await.aborted,
            Server::Sockets(servers) => udp::shut_down(servers, grace).await,
            #[cfg(unix)]
            Server::Path(server) => server.shutdown(grace).await.aborted,
        }
    }
}

/// Lists all current sessions.
pub async fn list<R: BuiltIn>(servers: &[Server<R>]) -> Vec<SessionInfo> {
    join_all(servers.iter().map(Server::list)).await.concat()
}

/// Echoes messages.
#[derive(Debug, Clone)]
struct Echo {
    transport: Transport,
    /// The paths served over WebSocket.
    site: Option<Arc<Site>>,
    /// The statistics to update, if wanted.
    totals: Option<Arc<Totals>>,
}

impl<M: Payload> Listener<Items<M>> for Echo {
    fn on_request(&mut self, _cx: &mut Context<'_, Items<M>>, request: &Request) -> Verdict {
        self.site.as_ref().map_or_else(|| Verdict::Accept(Accept::new()), |site| site.answer(request))
    }

    fn on_open(&mut self, _cx: &mut Context<'_, Items<M>>, _opened: &Opened) -> Result<(), Refuse> {
        if let Some(totals) = &self.totals {
            totals.count_opened();
        }
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_, Items<M>>, message: M) {
        let _ = cx.send(message); // refused only when the session is closing
    }

    fn on_messages(&mut self, cx: &mut Context<'_, Items<M>>) {
        let (mut messages, mut bytes) = (0, 0);
        while let Some(message) = cx.next_message() {
            messages += 1;
            bytes += message.bytes().len() as u64;
            self.on_message(cx, message);
        }
        if let Some(totals) = &self.totals {
            totals.count_messages(messages, bytes);
        }
    }

    fn on_idle(&mut self, cx: &mut Context<'_, Items<M>>, idle: Idle) {
        cx.close(Close::idle(idle));
    }

    fn on_dropped(&mut self, _cx: &mut Context<'_, Items<M>>, dropped: &Dropped) {
        if let Some(totals) = &self.totals {
            totals.count_dropped(dropped);
        }
    }

    fn on_close(&mut self, cx: &mut Context<'_, Items<M>>, reason: &CloseReason) {
        if let Some(totals) = &self.totals {
            totals.count_closed(self.transport, cx.was_opened(), reason, &cx.stats());
        }
    }
}
