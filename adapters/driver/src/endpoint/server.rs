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
/// `A` says what it listens on: a [`SocketAddr`], or the path of a Unix socket.
pub struct Server<R, A = SocketAddr> {
    address: A,
    endpoint: Arc<Endpoint>,
    runtime: PhantomData<fn(R)>,
}

impl<R: Runtime> Server<R> {
    /// Starts from the defaults.
    pub fn builder() -> ServerBuilder<R> {
        ServerBuilder {
            settings: Settings::new(PacketOptions::unconnected()),
            own: Own::default(),
            runtime: PhantomData,
        }
    }

    /// The address it listens on, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(unix)]
impl<R> Server<R, PathBuf> {
    /// The path of its socket, which is absolute, or the name of an abstract one, after a NUL.
    pub fn path(&self) -> &Path {
        &self.address
    }
}

impl<R: Runtime, A> Server<R, A> {
    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.endpoint.sessions()
    }

    /// What it has done so far.
    pub fn stats(&self) -> ServerStats {
        self.endpoint.stats()
    }

    /// Every session that there is now, in no order. Each is asked, and answers at the end of its turn, so
    /// that nothing is kept up to date in vain; one whose listener does not return holds up the answer. They
    /// are asked 64 at a time.
    ///
    /// # Cancel safety
    /// Dropping the future forgets the question.
    pub async fn list(&self) -> Vec<SessionInfo> {
        self.endpoint.list().await
    }

    /// Waits until the server has ended of its own accord, and returns why. It serves no one any longer: a
    /// program that exists to serve should end too.
    ///
    /// Over UDP that is when the socket fails ([`CloseReason::Io`]; not by errors of single datagrams), the
    /// codec panics, or a listener ends the one session that a server of [`udp`](ServerBuilder::udp) has.
    /// Over TCP and Unix sockets a server goes on trying, whatever accepting gives
    /// ([`ServerStats::failures`]). In all cases it has ended when the runtime has dropped its task.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future; called again, it gives the same.
    pub async fn ended(&self) -> CloseReason {
        self.endpoint.ended().await
    }

    /// Stops accepting, tells every listener (`on_shutdown`, which by default closes gracefully after the
    /// messages that are already here), waits up to `grace`, then aborts what is left. A session that is not
    /// open says what it has to say (WebSocket: 503), and does not wait for the peer to end its side.
    ///
    /// # Cancel safety
    /// Dropping the future drops the server: what is left is aborted.
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

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// How many sessions had to be aborted because they were not over in time. This includes sessions whose
    /// own [`close_timeout`](getty_core::Config::close_timeout) passed just as the grace ended, as it does if
    /// both are equal.
    pub aborted: usize,
}

/// Makes a [`Server`].
#[must_use = "a builder does nothing until it is bound"]
pub struct ServerBuilder<R: Runtime, S = <R as Runtime>::Spawner, T = Plaintext> {
    settings: Settings<S, T>,
    own: Own,
    runtime: PhantomData<fn(R)>,
}

/// What a server has that clients do not.
#[derive(Default)]
struct Own {
    #[cfg(unix)]
    unix: UnixOptions,
    limits: ServerLimits,
    on_dropped: Option<OnDropped>,
}

shared_setters!(ServerBuilder);

impl<R: Runtime, S, T: Security> ServerBuilder<R, S, T> {
    /// How many connections are taken, over TCP and Unix sockets. For datagrams, see
    /// [`PeerLimits`].
    pub fn limits(mut self, limits: ServerLimits) -> Self {
        self.own.limits = limits;
        self
    }

    /// Options of Unix sockets.
    #[cfg(unix)]
    pub fn unix_options(mut self, options: UnixOptions) -> Self {
        self.own.unix = options;
        self
    }

    /// Speaks TLS with whoever connects over TCP or a Unix socket; WebSocket is `wss` then. Datagrams stay as
    /// they are. The [`ServerTls`](crate::tls::ServerTls) may be kept, to replace its certificate while the
    /// server runs.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: ServerTls) -> ServerBuilder<R, S, ServerTls> {
        self.with_security(tls)
    }

    /// Speaks TLS if there is a [`ServerTls`](crate::tls::ServerTls), as [`tls`](Self::tls) does, and else
    /// does not: for programs that choose when they run.
    #[cfg(feature = "tls")]
    pub fn maybe_tls(self, tls: Option<ServerTls>) -> ServerBuilder<R, S, Option<ServerTls>> {
        self.with_security(tls)
    }

    /// Sets a function that gets reports of dropped datagrams, at most once a second, at a socket whose peers
    /// have sessions of their own. Where one session serves all peers, its listener gets the reports.
    pub fn on_dropped(mut self, hook: impl Fn(&Dropped) + Send + Sync + 'static) -> Self {
        self.own.on_dropped = Some(Arc::new(hook));
        self
    }

    /// Listens on `address` (`HOST:PORT`; port 0 takes a free one) and gives each connection a session with
    /// the protocol and the listener that the two functions make: `framed(LengthDelimited::new)`, or
    /// `WebSocket::serving(options)`, or any closure.
    ///
    /// If the host is a name with several addresses, this listens on the first that works and on no other:
    /// `localhost` is `127.0.0.1` or `::1`, and clients of the other are refused. `0.0.0.0` is every IPv4
    /// address of the machine, `[::]` with IPv4 too where the system says so. To listen on several addresses,
    /// resolve the name and start a server at each.
    ///
    /// # Errors
    /// The address can't be resolved, or not be listened on; the error names it.
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

    /// Listens on a Unix socket at `path` and gives each connection a session, as [`tcp`](Self::tcp) does.
    ///
    /// The file is removed when the server ends. One that a killed process left behind, on which nobody
    /// listens, is replaced; any other file at `path` is an error. Two servers that find such a file at the
    /// same moment may each take it for left behind, and the later one then has the path.
    ///
    /// A path that begins with a NUL, such as `"\0name"`, is an abstract name, which only Linux has: there is
    /// no file, nothing to be removed, and no permissions. Any process of the same network namespace may
    /// connect.
    ///
    /// # Errors
    /// The path can't be listened on, or has a NUL in any other place ([`io::ErrorKind::InvalidInput`]); the
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

    /// Takes datagrams of any peer at `address` (`HOST:PORT`; port 0 takes a free one), in one session for
    /// all of them with one listener. In a callback, [`Context::peer_addr`](crate::Context::peer_addr) says
    /// whose message it is, and what is sent goes back there; [`send_to`](crate::Context::send_to) sends to
    /// others.
    ///
    /// Of a name with several addresses, the first that works is bound to, and no other; see
    /// [`tcp`](Self::tcp).
    ///
    /// # Errors
    /// The address can't be resolved, or not be bound to; the error names it.
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
        member.open(); // there is nobody to shake hands with
        driver.task().set_member(member);
        driver.task().set_on_panic(settings.on_panic);
        settings.spawner.spawn(driver);
        Ok(Server { address: local, endpoint, runtime: PhantomData })
    }

    /// Takes datagrams at `address` (`HOST:PORT`; port 0 takes a free one), with a session for each peer, as
    /// if each had a connection. The function makes the listener of a peer that nobody knows yet, or says by
    /// `None` that it is not let in; nothing is kept of it before. Who they are is not sure: an address can
    /// be invented, hence the limits, and [`Context::validate_peer`](crate::Context::validate_peer).
    ///
    /// Of a name with several addresses, the first that works is bound to, and no other; see
    /// [`tcp`](Self::tcp).
    ///
    /// # Errors
    /// The address can't be resolved, or not be bound to; the error names it.
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
        // Seeds of the standard library's hash tables come from the system.
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

    /// Spawns the task that accepts.
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
