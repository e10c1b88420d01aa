//! [`Client`]: connects and creates a session for the connection.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
#[cfg(unix)]
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use getty_core::codec::{Decoder, Encoder};
use getty_core::datagram::{PacketOptions, Packets};
use getty_core::{Items, Out, Protocol, Session};

use crate::drive::connection::Connection;
use crate::drive::driver::Driver;
use crate::drive::packet_driver::PacketDriver;
use crate::endpoint::connect::ConnectTcp;
#[cfg(unix)]
use crate::endpoint::connect::ConnectUnix;
use crate::endpoint::resolve::{first_good, host, resolve};
use crate::endpoint::security::{Plaintext, Security};
use crate::endpoint::settings::{Settings, shared_setters};
#[cfg(feature = "tls")]
use crate::endpoint::tls::ClientTls;
#[cfg(unix)]
use crate::runtime::UnixRuntime;
use crate::runtime::io::{Io, Timer};
use crate::runtime::{Runtime, Spawn, clock};
use crate::session::handle::Handle;
use crate::session::listener::Listener;
use crate::session::receiver::{Forward, Receiver};
use crate::socket::address::AddressError;
#[cfg(unix)]
use crate::socket::unix;

/// Connects to servers: one session to one address at a time.
#[derive(Debug)]
pub struct Client<R>(PhantomData<fn(R)>);

impl<R: Runtime> Client<R> {
    /// Returns a builder with the default settings.
    pub fn builder() -> ClientBuilder<R> {
        ClientBuilder {
            settings: Settings::new(PacketOptions::connected()),
            own: Own { connect_timeout: Duration::from_secs(10) },
            runtime: PhantomData,
        }
    }
}

/// Builds client sessions.
#[must_use = "a builder does nothing until it connects"]
pub struct ClientBuilder<R: Runtime, S = <R as Runtime>::Spawner, T = Plaintext> {
    pub(crate) settings: Settings<S, T>,
    pub(crate) own: Own,
    runtime: PhantomData<fn(R)>,
}

/// Settings of clients only.
pub(crate) struct Own {
    pub(crate) connect_timeout: Duration,
}

shared_setters!(ClientBuilder);

impl<R: Runtime, S, T: Security> ClientBuilder<R, S, T> {
    /// Sets the time limit for resolving the name and connecting, in total over all addresses of the name.
    /// Over TCP, the next address is tried in parallel with the others once one has failed or has not
    /// answered within 250 ms (RFC 8305, "Happy Eyeballs"). Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.own.connect_timeout = timeout;
        self
    }

    /// Uses TLS over TCP, Unix sockets and WebSocket (with a `wss` URL). The server's certificate must be
    /// valid for the host in the address. Over a Unix socket, set its name
    /// ([`ClientTlsBuilder::server_name`](crate::tls::ClientTlsBuilder::server_name)). Datagrams are not
    /// encrypted.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: ClientTls) -> ClientBuilder<R, S, ClientTls> {
        self.with_security(tls)
    }

    /// Uses TLS, as [`tls`](Self::tls) does, if there is a [`ClientTls`](crate::tls::ClientTls). For programs
    /// that choose at run time.
    #[cfg(feature = "tls")]
    pub fn maybe_tls(self, tls: Option<ClientTls>) -> ClientBuilder<R, S, Option<ClientTls>> {
        self.with_security(tls)
    }

    /// Connects to `address` (`HOST:PORT`) and spawns a session of `protocol`, such as
    /// `Framed::new(LengthDelimited::new())`, with `listener`. The session lives until it is closed, whether
    /// or not it has handles. An IPv6 address is written in brackets, with its zone if it needs one:
    /// `[fe80::1%eth0]:7000`.
    ///
    /// # Errors
    /// The address cannot be resolved or connected to in time; the error names it.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt to connect.
    pub async fn tcp<P, L>(self, address: &str, protocol: P, listener: L) -> io::Result<Handle<Out<P>>>
    where
        P: Protocol,
        L: Listener<P::Messages>,
        S: Spawn<Driver<R, R::TcpStream, T::Wrapped<P>, L>>,
    {
        let protocol = self.wrap(host(address), protocol)?;
        let stream = self.connect_tcp(address).await?;
        Ok(self.spawn(stream, protocol, listener))
    }

    /// Connects to `address` (`HOST:PORT`) and returns a [`Connection`], from which messages are pulled. No
    /// task is spawned.
    ///
    /// # Errors
    /// The address cannot be resolved or connected to in time; the error names it.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt to connect.
    pub async fn tcp_connection<P: Protocol>(
        self,
        address: &str,
        protocol: P,
    ) -> io::Result<Connection<R, R::TcpStream, T::Wrapped<P>>> {
        let protocol = self.wrap(host(address), protocol)?;
        let stream = self.connect_tcp(address).await?;
        Ok(self.connection(stream, protocol))
    }

    /// Connects to the Unix socket at `path` and spawns a session, as [`tcp`](Self::tcp) does. On Linux, a
    /// path that begins with a NUL is an abstract name.
    ///
    /// # Errors
    /// The path cannot be connected to in time, or has a NUL in any other place
    /// ([`io::ErrorKind::InvalidInput`]); the error names it.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt to connect.
    #[cfg(unix)]
    pub async fn unix<P, L>(
        self,
        path: impl AsRef<Path>,
        protocol: P,
        listener: L,
    ) -> io::Result<Handle<Out<P>>>
    where
        R: UnixRuntime,
        P: Protocol,
        L: Listener<P::Messages>,
        S: Spawn<Driver<R, R::UnixStream, T::Wrapped<P>, L>>,
    {
        let protocol = self.wrap("", protocol)?;
        let stream = self.connect_unix(path.as_ref()).await?;
        Ok(self.spawn(stream, protocol, listener))
    }

    /// Connects to the Unix socket at `path` and returns a [`Connection`], as
    /// [`tcp_connection`](Self::tcp_connection) does. On Linux, a path that begins with a NUL is an abstract
    /// name.
    ///
    /// # Errors
    /// As for [`unix`](Self::unix).
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt to connect.
    #[cfg(unix)]
    pub async fn unix_connection<P: Protocol>(
        self,
        path: impl AsRef<Path>,
        protocol: P,
    ) -> io::Result<Connection<R, R::UnixStream, T::Wrapped<P>>>
    where
        R: UnixRuntime,
    {
        let protocol = self.wrap("", protocol)?;
        let stream = self.connect_unix(path.as_ref()).await?;
        Ok(self.connection(stream, protocol))
    }

    /// Connects a UDP socket to `address` (`HOST:PORT`; for a name with several addresses, the first one that
    /// works) and spawns a session with `listener`. It sends to that peer and receives from no other.
    /// Connecting sends nothing, and so does not show whether the peer is there; once something has been
    /// sent, [`Listener::on_dropped`] may report that it is not.
    ///
    /// # Errors
    /// The address cannot be resolved in time, or there is no route to it; the error names it.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt to connect.
    pub async fn udp<C, O, L>(self, address: &str, codec: C, listener: L) -> io::Result<Handle<O>>
    where
        C: Decoder + Encoder<O>,
        L: Listener<Items<C::Item, O>>,
        S: Spawn<PacketDriver<R, R::UdpSocket, C, O, L>>,
    {
        let connecting = self.in_time(async {
            let resolved = resolve::<R>(address).await?;
            R::udp_socket(first_good(&resolved, |address| self.settings.udp.connect(address))?)
        });
        let socket = connecting.await.map_err(|error| AddressError::wrap("connect to", address, error))?;
        let settings = self.settings;
        let options = settings.packets.with_connected(true);
        let packets = Packets::new(codec, options, settings.config, clock::timestamp(R::now()));
        let mut driver = PacketDriver::new(packets, socket, listener);
        driver.task().set_on_panic(settings.on_panic);
        let handle = driver.handle();
        settings.spawner.spawn(driver);
        Ok(handle)
    }

    /// Connects as [`udp`](Self::udp) does, with a [`Receiver`] instead of a listener: messages received wait
    /// in its queue. The two halves may be used from different tasks. The queue holds
    /// [`Config::handle_queue`](getty_core::Config::handle_queue) messages. While it is full, the session
    /// does not read, and the system drops datagrams that exceed its own buffer.
    ///
    /// # Errors
    /// As for [`udp`](Self::udp).
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt to connect.
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
        let (forward, queue) = Forward::new(&self.settings.config, false);
        let handle = self.udp(address, codec, forward).await?;
        Ok((handle.clone(), Receiver::new(queue, handle, R::yield_now)))
    }

    /// Puts the endpoint's layer below a protocol.
    pub(crate) fn wrap<P: Protocol>(&self, host: &str, protocol: P) -> io::Result<T::Wrapped<P>> {
        Ok(T::wrap(self.settings.security.layer(host)?, protocol))
    }

    /// Spawns a session of `protocol`.
    pub(crate) fn spawn<I, P, L>(self, stream: I, protocol: P, listener: L) -> Handle<Out<P>>
    where
        I: Io,
        P: Protocol,
        L: Listener<P::Messages>,
        S: Spawn<Driver<R, I, P, L>>,
    {
        let settings = self.settings;
        let session = Session::new(protocol, settings.config, clock::timestamp(R::now()));
        let mut driver = Driver::new(session, stream, listener);
        driver.task().set_on_panic(settings.on_panic);
        let handle = driver.handle();
        settings.spawner.spawn(driver);
        handle
    }

    /// Makes a connection of `protocol`.
    pub(crate) fn connection<I: Io, P: Protocol>(self, stream: I, protocol: P) -> Connection<R, I, P> {
        Connection::new(Session::new(protocol, self.settings.config, clock::timestamp(R::now())), stream)
    }

    pub(crate) async fn connect_tcp(&self, address: &str) -> io::Result<R::TcpStream> {
        let connecting = ConnectTcp::<R>::new(address, self.own.connect_timeout, self.settings.tcp.clone());
        connecting.await.map_err(|error| AddressError::wrap("connect to", address, error))
    }

    #[cfg(unix)]
    async fn connect_unix(&self, path: &Path) -> io::Result<R::UnixStream>
    where
        R: UnixRuntime,
    {
        let connecting = ConnectUnix::<R>::new(path, self.own.connect_timeout);
        connecting.await.map_err(|error| AddressError::wrap("connect to", unix::shown(path), error))
    }

    /// Waits for `connecting`, at most for the connect timeout.
    async fn in_time<N>(&self, connecting: impl Future<Output = io::Result<N>>) -> io::Result<N> {
        let mut connecting = pin!(connecting);
        let mut timer = R::timer(clock::after::<R>(self.own.connect_timeout));
        poll_fn(|cx| {
            if let Poll::Ready(result) = connecting.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            timer.poll(cx).map(|()| {
                let text = format!("no connection within {:?}", self.own.connect_timeout);
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            })
        })
        .await
    }
}

impl<R: Runtime, S, T> fmt::Debug for ClientBuilder<R, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("config", &self.settings.config)
            .field("tcp", &self.settings.tcp)
            .field("connect_timeout", &self.own.connect_timeout)
            .finish_non_exhaustive()
    }
}
