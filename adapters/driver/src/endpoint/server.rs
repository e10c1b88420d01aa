//! [`Server`]: accepts connections and gives each a session.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use getty_core::codec::{Decoder, Encoder};
use getty_core::datagram::{Dropped, PacketOptions, Packets, Path as PacketPath, PeerLimits, Peers};
use getty_core::{CloseReason, Items};

use crate::drive::limits::{ServerLimits, ServerStats, SessionInfo};
use crate::drive::members::{Endpoint, Phase};
use crate::drive::packet_driver::PacketDriver;
use crate::drive::peers_driver::{OnDropped, PeersDriver};
use crate::drive::slots::Role;
use crate::endpoint::accept::{AcceptTask, SpawnServer};
use crate::endpoint::factory::{ListenerFactory, MessagesOf, ProtocolFactory};
use crate::endpoint::incoming::TcpIncoming;
#[cfg(unix)]
use crate::endpoint::incoming::UnixIncoming;
use crate::endpoint::resolve::{first_good, resolve};
use crate::endpoint::security::{Plaintext, Security};
use crate::endpoint::settings::{Settings, shared_setters};
#[cfg(feature = "tls")]
use crate::endpoint::tls::ServerTls;
#[cfg(unix)]
use crate::runtime::UnixRuntime;
use crate::runtime::{Accept, Runtime, Spawn, clock};
use crate::session::listener::Listener;
use crate::socket::address::AddressError;
#[cfg(unix)]
use crate::socket::unix::{self, UnixOptions};

/// A running server. Dropping it stops accepting and aborts its sessions.
///
/// `A` is the address it listens on: a [`SocketAddr`], or the path of a Unix socket.
pub struct Server<R, A = SocketAddr> {
    address: A,
    endpoint: Arc<Endpoint>,
    runtime: PhantomData<fn(R)>,
}

impl<R: Runtime> Server<R> {
    /// Returns a builder with the default settings.
    pub fn builder() -> ServerBuilder<R> {
        ServerBuilder {
            settings: Settings::new(PacketOptions::unconnected()),
            own: Own::default(),
            runtime: PhantomData,
        }
    }

    /// The address it listens on, with the actual port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(unix)]
impl<R> Server<R, PathBuf> {
    /// The absolute path of its socket, or the name of an abstract socket, after a NUL.
    pub fn path(&self) -> &Path {
        &self.address
    }
}

impl<R: Runtime, A> Server<R, A> {
    /// The number of current sessions.
    pub fn sessions(&self) -> usize {
        self.endpoint.sessions()
    }

    /// Statistics: current sessions, and counts since the server began.
    pub fn stats(&self) -> ServerStats {
        self.endpoint.stats()
    }

    /// All current sessions, in no particular order. Each session is asked and answers at the end of its
    /// turn, so that no list has to be kept up to date. A session whose listener does not return delays the
    /// result. At most 64 are asked at a time.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the request, and affects no session.
    pub async fn list(&self) -> Vec<SessionInfo> {
        self.endpoint.list().await
    }

    /// Waits until the server has ended by itself, and returns the reason. It serves no one any longer, so a
    /// program that exists to serve should end too.
    ///
    /// Over UDP, a server ends when its socket fails ([`CloseReason::Io`]; errors of single datagrams do not
    /// count), when the codec panics, or when the listener of [`udp`](ServerBuilder::udp) ends its only
    /// session. Over TCP and Unix sockets, a server keeps accepting whatever errors occur
    /// ([`ServerStats::failures`]). In every case it has ended once the runtime has dropped its task.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing. A later call returns the same reason.
    pub async fn ended(&self) -> CloseReason {
        self.endpoint.ended().await
    }

    /// Stops accepting, calls the [`on_shutdown`](Listener::on_shutdown) of every listener (by default, a
    /// graceful close after the messages already received), waits up to `grace`, then aborts the remaining
    /// sessions. A session that is not open yet still sends its refusal, if it has one (WebSocket: 503), and
    /// does not wait for the peer to end its side.
    ///
    /// # Cancel safety
    /// Dropping the future drops the server, which aborts the remaining sessions.
    pub async fn shutdown(self, grace: Duration) -> Shutdown {
        let aborted = self.endpoint.shut_down::<R>(grace).await;
        Shutdown { aborted }
    }
}

impl<R, A> Drop for Server<R, A> {
    fn drop(&mut self) {
        self.endpoint.enter(Phase::Aborting);
    }
}

impl<R, A: fmt::Debug> fmt::Debug for Server<R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).field("endpoint", &self.endpoint).finish()
    }
}

/// Result of [`Server::shutdown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// Number of sessions that were aborted because they had not ended in time. This includes sessions whose
    /// own [`close_timeout`](getty_core::Config::close_timeout) passed just as the grace ended, which happens
    /// if both are equal.
    pub aborted: usize,
}

/// Builds a [`Server`].
#[must_use = "a builder does nothing until it is bound"]
pub struct ServerBuilder<R: Runtime, S = <R as Runtime>::Spawner, T = Plaintext> {
    settings: Settings<S, T>,
    own: Own,
    runtime: PhantomData<fn(R)>,
}

/// Settings of servers only.
#[derive(Default)]
struct Own {
    #[cfg(unix)]
    unix: UnixOptions,
    limits: ServerLimits,
    on_dropped: Option<OnDropped>,
}

shared_setters!(ServerBuilder);

impl<R: Runtime, S, T: Security> ServerBuilder<R, S, T> {
    /// Sets the limits on connections over TCP and Unix sockets. For datagrams, see [`PeerLimits`]. Default:
    /// [`ServerLimits::new`].
    pub fn limits(mut self, limits: ServerLimits) -> Self {
        self.own.limits = limits;
        self
    }

    /// Sets options of Unix sockets.
    #[cfg(unix)]
    pub fn unix_options(mut self, options: UnixOptions) -> Self {
        self.own.unix = options;
        self
    }

    /// Uses TLS on all connections over TCP and Unix sockets. WebSocket URLs are then `wss`. Datagrams are
    /// not encrypted. Keep a clone of the [`ServerTls`](crate::tls::ServerTls) to replace its certificate
    /// while the server runs.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: ServerTls) -> ServerBuilder<R, S, ServerTls> {
        self.with_security(tls)
    }

    /// Uses TLS, as [`tls`](Self::tls) does, if there is a [`ServerTls`](crate::tls::ServerTls). For programs
    /// that choose at run time.
    #[cfg(feature = "tls")]
    pub fn maybe_tls(self, tls: Option<ServerTls>) -> ServerBuilder<R, S, Option<ServerTls>> {
        self.with_security(tls)
    }

    /// Sets a function that receives reports of dropped datagrams, at most one a second, from a socket whose
    /// peers have their own sessions ([`udp_peers`](Self::udp_peers)). Where one session serves all peers,
    /// its listener receives the reports.
    pub fn on_dropped(mut self, hook: impl Fn(&Dropped) + Send + Sync + 'static) -> Self {
        self.own.on_dropped = Some(Arc::new(hook));
        self
    }

    /// Listens on `address` (`HOST:PORT`; port 0 takes a free one) and gives each connection a session, with
    /// a protocol and a listener made by the two functions. `protocol` is `framed(LengthDelimited::new)`,
    /// `WebSocket::serving(options)`, or any closure.
    ///
    /// If the host is a name with several addresses, the server listens only on the first one that works:
    /// `localhost` is either `127.0.0.1` or `::1`, and clients that use the other are refused. `0.0.0.0` is
    /// every IPv4 address of the machine; `[::]` is every IPv6 address, and every IPv4 address too if the
    /// system is configured so. To listen on several addresses, resolve the name and start a server for each.
    ///
    /// # Errors
    /// The address cannot be resolved or listened on; the error names it.
    pub async fn tcp<F, K>(self, address: &str, protocol: F, listener: K) -> io::Result<Server<R>>
    where
        F: ProtocolFactory,
        K: ListenerFactory<MessagesOf<F>>,
        S: SpawnServer<R, TcpIncoming<R>, T, F, K>,
    {
        let named = |error| AddressError::wrap("listen on", address, error);
        let resolved = resolve::<R>(address).await.map_err(named)?;
        let tcp = &self.settings.tcp;
        let listening = first_good(&resolved, |address| TcpIncoming::listen(address, tcp.clone()));
        let (incoming, local) = listening.map_err(named)?;
        Ok(self.start(incoming, local, protocol, listener))
    }

    /// Listens on a Unix socket at `path`, and gives each connection a session, as [`tcp`](Self::tcp) does.
    ///
    /// The file is removed when the server ends. A socket file left behind by a killed process, on which
    /// nothing listens, is replaced; any other file at `path` is an error. If two servers find such a file at
    /// the same moment, both may replace it, and the later one then has the path.
    ///
    /// A path that begins with a NUL, such as `"\0name"`, is an abstract name, which exists only on Linux.
    /// There is no file, so nothing has to be removed, and there are no permissions: any process in the same
    /// network namespace may connect.
    ///
    /// # Errors
    /// The path cannot be listened on, or has a NUL in any other place ([`io::ErrorKind::InvalidInput`]); the
    /// error names it.
    #[cfg(unix)]
    pub fn unix<F, K>(
        self,
        path: impl AsRef<Path>,
        protocol: F,
        listener: K,
    ) -> io::Result<Server<R, PathBuf>>
    where
        R: UnixRuntime,
        F: ProtocolFactory,
        K: ListenerFactory<MessagesOf<F>>,
        S: SpawnServer<R, UnixIncoming<R>, T, F, K>,
    {
        let path = path.as_ref();
        let (incoming, path) = UnixIncoming::listen(path, &self.own.unix)
            .map_err(|error| AddressError::wrap("listen on", unix::shown(path), error))?;
        Ok(self.start(incoming, path, protocol, listener))
    }

    /// Receives datagrams from any peer at `address` (`HOST:PORT`; port 0 takes a free one), in one session
    /// with one listener for all peers. In a callback, [`Context::peer_addr`](crate::Context::peer_addr) is
    /// the sender of the message, and messages sent go back to it; [`send_to`](crate::Context::send_to) sends
    /// to other peers.
    ///
    /// If the host is a name with several addresses, only the first one that works is bound; see
    /// [`tcp`](Self::tcp).
    ///
    /// # Errors
    /// The address cannot be resolved or bound; the error names it.
    pub async fn udp<C, O, L>(self, address: &str, codec: C, listener: L) -> io::Result<Server<R>>
    where
        C: Decoder + Encoder<O>,
        L: Listener<Items<C::Item, O>>,
        S: Spawn<PacketDriver<R, R::UdpSocket, C, O, L>>,
    {
        let (socket, local) = self.bind_udp(address).await?;
        let settings = self.settings;
        let options = settings.packets.with_connected(false);
        let packets = Packets::new(codec, options, settings.config, clock::timestamp(R::now()));
        let mut driver = PacketDriver::new(packets, socket, listener);
        let endpoint = Arc::new(Endpoint::default());
        let mut member = endpoint.join(Role::Sole);
        member.open(); // there is no handshake
        driver.task().set_member(member);
        driver.task().set_on_panic(settings.on_panic);
        settings.spawner.spawn(driver);
        Ok(Server { address: local, endpoint, runtime: PhantomData })
    }

    /// Receives datagrams at `address` (`HOST:PORT`; port 0 takes a free one), with a session for each peer,
    /// as if each had a connection. `listener` makes the listener of an unknown peer, or returns `None` to
    /// refuse it; no state is kept for the peer before that. A peer's address may be forged: hence the
    /// limits, and [`Context::validate_peer`](crate::Context::validate_peer).
    ///
    /// If the host is a name with several addresses, only the first one that works is bound; see
    /// [`tcp`](Self::tcp).
    ///
    /// # Errors
    /// The address cannot be resolved or bound; the error names it.
    pub async fn udp_peers<C, O, L, ML>(
        self,
        address: &str,
        limits: PeerLimits,
        codec: C,
        listener: ML,
    ) -> io::Result<Server<R>>
    where
        C: Decoder + Encoder<O>,
        L: Listener<Items<C::Item, O>>,
        ML: Fn(PacketPath) -> Option<L>,
        S: Spawn<PeersDriver<R, R::UdpSocket, C, O, L, ML>>,
    {
        let (socket, local) = self.bind_udp(address).await?;
        // The system provides the seeds of `RandomState`.
        let seed = [RandomState::new(), RandomState::new()].map(|state| state.hash_one(0));
        let ServerBuilder { settings, own, .. } = self;
        let now = clock::timestamp(R::now());
        let peers = Peers::new(codec, settings.packets, limits, settings.config, seed, now);
        let endpoint = Arc::new(Endpoint::default());
        let mut driver = PeersDriver::new(peers, socket, listener, endpoint.clone());
        driver.set_hooks(settings.on_panic, own.on_dropped);
        settings.spawner.spawn(driver);
        Ok(Server { address: local, endpoint, runtime: PhantomData })
    }

    async fn bind_udp(&self, address: &str) -> io::Result<(R::UdpSocket, SocketAddr)> {
        let named = |error| AddressError::wrap("listen on", address, error);
        let resolved = resolve::<R>(address).await.map_err(named)?;
        let socket = first_good(&resolved, |address| self.settings.udp.bind(address)).map_err(named)?;
        let local = socket.local_addr().map_err(named)?;
        Ok((R::udp_socket(socket).map_err(named)?, local))
    }

    /// Spawns the accept task.
    fn start<I, A, F, K>(self, incoming: I, address: A, protocol: F, listener: K) -> Server<R, A>
    where
        I: Accept,
        F: ProtocolFactory,
        K: ListenerFactory<MessagesOf<F>>,
        S: SpawnServer<R, I, T, F, K>,
    {
        let endpoint = Arc::new(Endpoint::default());
        let spawner = self.settings.spawner.clone();
        let make = (protocol, listener);
        let task = AcceptTask::new(incoming, make, endpoint.clone(), self.settings, self.own.limits);
        Spawn::<AcceptTask<R, I, S, T, F, K>>::spawn(&spawner, task);
        Server { address, endpoint, runtime: PhantomData }
    }
}

impl<R: Runtime, S, T> fmt::Debug for ServerBuilder<R, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("config", &self.settings.config)
            .field("tcp", &self.settings.tcp)
            .finish_non_exhaustive()
    }
}
