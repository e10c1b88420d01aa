//! [`Client`]: connects, and gives the connection a session.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
#[cfg(unix)]
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use getty_core::codec::{Decoder, Encoder};
use getty_core::datagram::{PacketOptions, Packets};
use getty_core::{Config, Framed, Items, Out, Session, StreamProtocol};

use crate::drive::actor::OnPanic;
use crate::drive::connection::Connection;
use crate::drive::driver::Driver;
use crate::drive::packet_driver::PacketDriver;
use crate::endpoint::connect::ConnectTcp;
#[cfg(unix)]
use crate::endpoint::connect::ConnectUnix;
use crate::endpoint::resolve::{first_good, host, resolve};
use crate::endpoint::security::{Plaintext, Security};
#[cfg(unix)]
use crate::runtime::UnixRuntime;
use crate::runtime::io::{Io, Timer};
use crate::runtime::{Runtime, Spawn, clock};
use crate::session::handle::Handle;
use crate::session::id::SessionId;
use crate::session::listener::Listener;
use crate::session::receiver::{Forward, Receiver};
use crate::socket::address::AddressError;
use crate::socket::tcp::TcpOptions;
use crate::socket::udp::UdpOptions;
#[cfg(unix)]
use crate::socket::unix;

/// Connects to servers: one session to one address at a time.
#[derive(Debug)]
pub struct Client<R>(PhantomData<fn(R)>);

impl<R: Runtime> Client<R> {
    /// Starts from the defaults.
    pub fn builder() -> ClientBuilder<R> {
        ClientBuilder {
            config: Arc::new(Config::default()),
            tcp: TcpOptions::default(),
            udp: UdpOptions::default(),
            packets: PacketOptions::connected(),
            connect_timeout: Duration::from_secs(10),
            spawner: R::Spawner::default(),
            on_panic: None,
            security: Plaintext,
            runtime: PhantomData,
        }
    }
}

/// Makes client sessions.
#[must_use = "a builder does nothing until it connects"]
pub struct ClientBuilder<R: Runtime, S = <R as Runtime>::Spawner, T = Plaintext> {
    pub(crate) config: Arc<Config>,
    pub(crate) tcp: TcpOptions,
    udp: UdpOptions,
    packets: PacketOptions,
    pub(crate) connect_timeout: Duration,
    pub(crate) spawner: S,
    pub(crate) on_panic: Option<OnPanic>,
    pub(crate) security: T,
    runtime: PhantomData<fn(R)>,
}

impl<R: Runtime, S, T: Security> ClientBuilder<R, S, T> {
    /// Limits and periods of the session. Default: [`Config::default`].
    pub fn config(mut self, config: Arc<Config>) -> Self {
        self.config = config;
        self
    }

    /// Options of TCP sockets.
    pub fn tcp_options(mut self, options: TcpOptions) -> Self {
        self.tcp = options;
        self
    }

    /// Options of UDP sockets.
    pub fn udp_options(mut self, options: UdpOptions) -> Self {
        self.udp = options;
        self
    }

    /// How datagrams are taken. Whether the socket is connected is not asked here.
    pub fn packet_options(mut self, options: PacketOptions) -> Self {
        self.packets = options;
        self
    }

    /// How long resolving the name and connecting may take together, with all the addresses that the name has: over TCP,
    /// the next one is tried beside the others when one has failed or has not answered within 250 ms (RFC 8305, "Happy
    /// Eyeballs"). Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// What runs the session's task. By default the runtime's own; another one may be local to a thread.
    pub fn spawner<N>(self, spawner: N) -> ClientBuilder<R, N, T> {
        let ClientBuilder { config, tcp, udp, packets, connect_timeout, on_panic, security, runtime, .. } =
            self;
        ClientBuilder { config, tcp, udp, packets, connect_timeout, spawner, on_panic, security, runtime }
    }

    /// Speaks TLS with the server, over TCP, Unix sockets and WebSocket (with a `wss` URL). The server's certificate must
    /// be for the host of the address that is connected to; over a Unix socket, name it
    /// ([`ClientTlsBuilder::server_name`](crate::tls::ClientTlsBuilder::server_name)). Datagrams stay as they are.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: crate::tls::ClientTls) -> ClientBuilder<R, S, crate::tls::ClientTls> {
        let ClientBuilder { config, tcp, udp, packets, connect_timeout, spawner, on_panic, runtime, .. } =
            self;
        ClientBuilder {
            config,
            tcp,
            udp,
            packets,
            connect_timeout,
            spawner,
            on_panic,
            security: tls,
            runtime,
        }
    }

    /// Is told when a callback of the listener panics. The session is ended in any case.
    pub fn on_panic(mut self, hook: impl Fn(SessionId, &(dyn Any + Send)) + Send + Sync + 'static) -> Self {
        self.on_panic = Some(Arc::new(hook));
        self
    }

    /// Connects to `address` (`HOST:PORT`) and spawns a session with `listener`. The session lives until it
    /// is closed, with or without handles. An IPv6 address goes in brackets, with its zone where it needs
    /// one: `[fe80::1%eth0]:7000`.
    ///
    /// # Errors
    /// The address can't be resolved or connected to in time; the error names it.
    ///
    /// # Cancel safety
    /// Dropping the future gives up connecting.
    pub async fn tcp<C, O, L>(self, address: &str, codec: C, listener: L) -> io::Result<Handle<O>>
    where
        C: Decoder + Encoder<O>,
        L: Listener<Items<C::Item, O>>,
        S: Spawn<Driver<R, R::TcpStream, T::Over<Framed<C, O>>, L>>,
    {
        let protocol = self.security.cover(host(address), Framed::new(codec))?;
        let stream = self.connect_tcp(address).await?;
        Ok(self.spawn(stream, protocol, listener))
    }

    /// Connects to `address` (`HOST:PORT`) and gives a [`Connection`], from which messages are pulled; no
    /// task is spawned.
    ///
    /// # Errors
    /// The address can't be resolved or connected to in time; the error names it.
    ///
    /// # Cancel safety
    /// Dropping the future gives up connecting.
    pub async fn tcp_connection<C, O>(
        self,
        address: &str,
        codec: C,
    ) -> io::Result<Connection<R, R::TcpStream, T::Over<Framed<C, O>>>>
    where
        C: Decoder + Encoder<O>,
    {
        let protocol = self.security.cover(host(address), Framed::new(codec))?;
        let stream = self.connect_tcp(address).await?;
        Ok(self.connection(stream, protocol))
    }

    /// The same as [`tcp`](Self::tcp) over the Unix socket at `path`. On Linux, a path that begins with a NUL
    /// is an abstract name.
    ///
    /// # Errors
    /// The path can't be connected to in time, or has a NUL in any other place
    /// ([`io::ErrorKind::InvalidInput`]); the error names it.
    ///
    /// # Cancel safety
    /// Dropping the future gives up connecting.
    #[cfg(unix)]
    pub async fn unix<C, O, L>(self, path: impl AsRef<Path>, codec: C, listener: L) -> io::Result<Handle<O>>
    where
        R: UnixRuntime,
        C: Decoder + Encoder<O>,
        L: Listener<Items<C::Item, O>>,
        S: Spawn<Driver<R, R::UnixStream, T::Over<Framed<C, O>>, L>>,
    {
        let protocol = self.security.cover("", Framed::new(codec))?;
        let stream = self.connect_unix(path.as_ref()).await?;
        Ok(self.spawn(stream, protocol, listener))
    }

    /// The same as [`tcp_connection`](Self::tcp_connection) over the Unix socket at `path`. On Linux, a path
    /// that begins with a NUL is an abstract name.
    ///
    /// # Errors
    /// As for [`unix`](Self::unix).
    ///
    /// # Cancel safety
    /// Dropping the future gives up connecting.
    #[cfg(unix)]
    pub async fn unix_connection<C, O>(
        self,
        path: impl AsRef<Path>,
        codec: C,
    ) -> io::Result<Connection<R, R::UnixStream, T::Over<Framed<C, O>>>>
    where
        R: UnixRuntime,
        C: Decoder + Encoder<O>,
    {
        let protocol = self.security.cover("", Framed::new(codec))?;
        let stream = self.connect_unix(path.as_ref()).await?;
        Ok(self.connection(stream, protocol))
    }

    /// Connects a UDP socket to `address` (`HOST:PORT`; of a name with several addresses, the first that
    /// works) and spawns a session with `listener`: it sends to that peer and hears of no other. Nothing is
    /// sent to find out whether the peer is there; once something was sent, [`Listener::on_dropped`] may
    /// report that it is not.
    ///
    /// # Errors
    /// The address can't be resolved in time, or there is no way to it; the error names it.
    ///
    /// # Cancel safety
    /// Dropping the future gives up connecting.
    pub async fn udp<C, O, L>(self, address: &str, codec: C, listener: L) -> io::Result<Handle<O>>
    where
        C: Decoder + Encoder<O>,
        L: Listener<Items<C::Item, O>>,
        S: Spawn<PacketDriver<R, R::UdpSocket, C, O, L>>,
    {
        let connecting = self.in_time(async {
            let resolved = resolve::<R>(address).await?;
            R::udp_socket(first_good(&resolved, |address| self.udp.connect(address))?)
        });
        let socket = connecting.await.map_err(|error| AddressError::wrap("connect to", address, error))?;
        let options = self.packets.with_connected(true);
        let packets = Packets::new(codec, options, self.config, clock::timestamp(R::now()));
        let mut driver = PacketDriver::new(packets, socket, listener);
        driver.task().set_on_panic(self.on_panic);
        let handle = driver.handle();
        self.spawner.spawn(driver);
        Ok(handle)
    }

    /// The same, with what is received in the queue of a [`Receiver`] instead of a listener; the two halves may be used
    /// from different tasks. The queue holds [`Config::handle_queue`](getty_core::Config::handle_queue) messages; while
    /// it is full the session does not read, and the system drops what its own buffer can't hold.
    ///
    /// # Errors
    /// As for [`udp`](Self::udp).
    ///
    /// # Cancel safety
    /// Dropping the future gives up connecting.
    pub async fn udp_receiver<C, O>(
        self,
        address: &str,
        codec: C,
    ) -> io::Result<(Handle<O>, Receiver<C::Item, O>)>
    where
        C: Decoder + Encoder<O>,
        C::Item: 'static,
        S: Spawn<PacketDriver<R, R::UdpSocket, C, O, Forward<C::Item>>>,
    {
        let (forward, queue) = Forward::new(&self.config, false);
        let handle = self.udp(address, codec, forward).await?;
        Ok((handle.clone(), Receiver::new(queue, handle, R::yield_now)))
    }

    /// Spawns a session of `protocol`.
    pub(crate) fn spawn<I, P, L>(self, stream: I, protocol: P, listener: L) -> Handle<Out<P>>
    where
        I: Io,
        P: StreamProtocol,
        L: Listener<P::Messages>,
        S: Spawn<Driver<R, I, P, L>>,
    {
        let session = Session::new(protocol, self.config, clock::timestamp(R::now()));
        let mut driver = Driver::new(session, stream, listener);
        driver.task().set_on_panic(self.on_panic);
        let handle = driver.handle();
        self.spawner.spawn(driver);
        handle
    }

    /// A connection of `protocol`.
    pub(crate) fn connection<I: Io, P: StreamProtocol>(self, stream: I, protocol: P) -> Connection<R, I, P> {
        Connection::new(Session::new(protocol, self.config, clock::timestamp(R::now())), stream)
    }

    pub(crate) async fn connect_tcp(&self, address: &str) -> io::Result<R::TcpStream> {
        let connecting = ConnectTcp::<R>::new(address, self.connect_timeout, self.tcp.clone());
        connecting.await.map_err(|error| AddressError::wrap("connect to", address, error))
    }

    #[cfg(unix)]
    async fn connect_unix(&self, path: &Path) -> io::Result<R::UnixStream>
    where
        R: UnixRuntime,
    {
        let connecting = ConnectUnix::<R>::new(path, self.connect_timeout);
        connecting.await.map_err(|error| AddressError::wrap("connect to", unix::shown(path), error))
    }

    /// The result of `connecting`, unless it takes longer than connecting may.
    async fn in_time<N>(&self, connecting: impl Future<Output = io::Result<N>>) -> io::Result<N> {
        let mut connecting = pin!(connecting);
        let mut timer = R::timer(clock::after::<R>(self.connect_timeout));
        poll_fn(|cx| {
            if let Poll::Ready(result) = connecting.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            timer.poll(cx).map(|()| {
                let text = format!("no connection within {:?}", self.connect_timeout);
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            })
        })
        .await
    }
}

impl<R: Runtime, S, T> fmt::Debug for ClientBuilder<R, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("config", &self.config)
            .field("tcp", &self.tcp)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}
