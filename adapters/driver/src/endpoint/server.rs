//! [`Server`]: accepts connections and gives each a session.

use std::any::Any;
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
use getty_core::{CloseReason, Config, Framed, Items, Protocol};

use crate::drive::actor::OnPanic;
use crate::drive::driver::Driver;
use crate::drive::limits::{ServerLimits, ServerStats, SessionInfo};
use crate::drive::members::{Endpoint, Phase};
use crate::drive::packet_driver::PacketDriver;
use crate::drive::peers_driver::{OnDropped, PeersDriver};
use crate::drive::slots::Role;
use crate::endpoint::accept::AcceptTask;
use crate::endpoint::factory::{Covered, FramedBy, MakeProtocol};
use crate::endpoint::incoming::TcpIncoming;
#[cfg(unix)]
use crate::endpoint::incoming::UnixIncoming;
use crate::endpoint::resolve::{first_good, resolve};
use crate::endpoint::security::{Plaintext, Security};
#[cfg(unix)]
use crate::runtime::UnixRuntime;
use crate::runtime::{Accept, Runtime, Spawn, clock};
use crate::session::id::SessionId;
use crate::session::listener::Listener;
use crate::socket::address::AddressError;
use crate::socket::tcp::TcpOptions;
use crate::socket::udp::UdpOptions;
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
            config: Arc::new(Config::default()),
            tcp: TcpOptions::default(),
            #[cfg(unix)]
            unix: UnixOptions::default(),
            udp: UdpOptions::default(),
            packets: PacketOptions::unconnected(),
            spawner: R::Spawner::default(),
            limits: ServerLimits::default(),
            on_panic: None,
            on_dropped: None,
            security: Plaintext,
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
    /// own [`close_timeout`](Config::close_timeout) passed just as the grace ended, as it does if both are
    /// equal.
    pub aborted: usize,
}

/// Makes a [`Server`].
#[must_use = "a builder does nothing until it is bound"]
pub struct ServerBuilder<R: Runtime, S = <R as Runtime>::Spawner, T = Plaintext> {
    config: Arc<Config>,
    tcp: TcpOptions,
    #[cfg(unix)]
    unix: UnixOptions,
    udp: UdpOptions,
    packets: PacketOptions,
    spawner: S,
    limits: ServerLimits,
    on_panic: Option<OnPanic>,
    on_dropped: Option<OnDropped>,
    security: T,
    runtime: PhantomData<fn(R)>,
}

impl<R: Runtime, S, T: Security> ServerBuilder<R, S, T> {
    /// Limits and periods of every session. Default: [`Config::default`].
    pub fn config(mut self, config: Arc<Config>) -> Self {
        self.config = config;
        self
    }

    /// How many connections are taken, over TCP and Unix sockets. For datagrams, see
    /// [`PeerLimits`].
    pub fn limits(mut self, limits: ServerLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Options of TCP sockets.
    pub fn tcp_options(mut self, options: TcpOptions) -> Self {
        self.tcp = options;
        self
    }

    /// Options of Unix sockets.
    #[cfg(unix)]
    pub fn unix_options(mut self, options: UnixOptions) -> Self {
        self.unix = options;
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

    /// What runs the tasks. By default the runtime's own; another one may be local to a thread.
    pub fn spawner<N>(self, spawner: N) -> ServerBuilder<R, N, T> {
        self.exchange(|_, security| (spawner, security))
    }

    /// Speaks TLS with whoever connects, over TCP, Unix sockets and WebSocket (then `wss`). Datagrams stay as they are.
    /// The [`ServerTls`](crate::tls::ServerTls) may be kept, to replace its certificate while the server runs.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: crate::tls::ServerTls) -> ServerBuilder<R, S, crate::tls::ServerTls> {
        self.exchange(|spawner, _| (spawner, tls))
    }

    /// The same with another spawner, or with something else between sockets and protocols.
    fn exchange<N, U>(self, exchange: impl FnOnce(S, T) -> (N, U)) -> ServerBuilder<R, N, U> {
        let (spawner, security) = exchange(self.spawner, self.security);
        ServerBuilder {
            config: self.config,
            tcp: self.tcp,
            #[cfg(unix)]
            unix: self.unix,
            udp: self.udp,
            packets: self.packets,
            spawner,
            limits: self.limits,
            on_panic: self.on_panic,
            on_dropped: self.on_dropped,
            security,
            runtime: self.runtime,
        }
    }

    /// Is told when a callback of a listener panics, or a function that makes codecs or listeners. The session is
    /// ended in any case.
    pub fn on_panic(mut self, hook: impl Fn(SessionId, &(dyn Any + Send)) + Send + Sync + 'static) -> Self {
        self.on_panic = Some(Arc::new(hook));
        self
    }

    /// Is told, once a second at the most, of datagrams that came to nothing at a socket whose peers have sessions of their
    /// own; where there is one session for all, its listener is told.
    pub fn on_dropped(mut self, hook: impl Fn(&Dropped) + Send + Sync + 'static) -> Self {
        self.on_dropped = Some(Arc::new(hook));
        self
    }

    /// Listens on `address` (`HOST:PORT`; port 0 takes a free one) and gives each connection a session with
    /// the codec and the listener that the two functions make.
    ///
    /// If the host is a name with several addresses, this listens on the first that works and on no other:
    /// `localhost` is `127.0.0.1` or `::1`, and clients of the other are refused. `0.0.0.0` is every IPv4
    /// address of the machine, `[::]` with IPv4 too where the system says so. To listen on several addresses,
    /// resolve the name and start a server at each.
    ///
    /// # Errors
    /// The address can't be resolved, or not be listened on; the error names it.
    pub async fn tcp<C, O, L, MC, ML>(self, address: &str, codec: MC, listener: ML) -> io::Result<Server<R>>
    where
        MC: Fn() -> C,
        ML: Fn() -> L,
        C: Decoder + Encoder<O>,
        L: Listener<Items<C::Item, O>>,
        S: Spawn<AcceptTask<R, TcpIncoming<R>, S, Covered<T, FramedBy<MC, O>>, ML>>
            + Spawn<Driver<R, R::TcpStream, T::Over<Framed<C, O>>, L>>
            + Clone,
    {
        self.serve_tcp(address, FramedBy { codec, out: PhantomData }, listener).await
    }

    /// Listens on a Unix socket at `path` and gives each connection a session with the codec and the listener that the
    /// two functions make.
    ///
    /// The file is removed when the server ends. One that a killed process left behind, on which nobody listens any
    /// more, is replaced; any other file at `path` is an error. Two servers that find such a file at the same moment
    /// may each take it for left behind, and the later one then has the path.
    ///
    /// A path that begins with a NUL, such as `"\0name"`, is an abstract name, which only Linux has: there is
    /// no file, nothing to be removed, and no permissions. Any process of the same network namespace may
    /// connect.
    ///
    /// # Errors
    /// The path can't be listened on, or has a NUL in any other place ([`io::ErrorKind::InvalidInput`]); the
    /// error names it.
    #[cfg(unix)]
    pub fn unix<C, O, L, MC, ML>(
        self,
        path: impl AsRef<Path>,
        codec: MC,
        listener: ML,
    ) -> io::Result<Server<R, PathBuf>>
    where
        R: UnixRuntime,
        MC: Fn() -> C,
        ML: Fn() -> L,
        C: Decoder + Encoder<O>,
        L: Listener<Items<C::Item, O>>,
        S: Spawn<AcceptTask<R, UnixIncoming<R>, S, Covered<T, FramedBy<MC, O>>, ML>>
            + Spawn<Driver<R, R::UnixStream, T::Over<Framed<C, O>>, L>>
            + Clone,
    {
        let path = path.as_ref();
        let (incoming, path) = UnixIncoming::listen(path, &self.unix)
            .map_err(|error| AddressError::wrap("listen on", unix::shown(path), error))?;
        Ok(self.start(incoming, path, FramedBy { codec, out: PhantomData }, listener))
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
        let options = self.packets.with_connected(false);
        let packets = Packets::new(codec, options, self.config, clock::timestamp(R::now()));
        let mut driver = PacketDriver::new(packets, socket, listener);
        let endpoint = Arc::new(Endpoint::default());
        let mut member = endpoint.join(Role::Sole);
        member.open(); // there is nobody to shake hands with
        driver.task().set_member(member);
        driver.task().set_on_panic(self.on_panic);
        self.spawner.spawn(driver);
        Ok(Server { address: local, endpoint, runtime: PhantomData })
    }

    /// Takes datagrams at `address` (`HOST:PORT`; port 0 takes a free one), with a session for each peer, as if each had a
    /// connection. The function makes the listener of a peer that nobody knows yet, or says by `None` that it is not let
    /// in; nothing is kept of it before. Who they are is not sure: an address can be invented, hence the limits, and
    /// [`Context::validate_peer`](crate::Context::validate_peer).
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
        let peers = Peers::new(codec, self.packets, limits, self.config, seed, clock::timestamp(R::now()));
        let endpoint = Arc::new(Endpoint::default());
        let mut driver = PeersDriver::new(peers, socket, listener, endpoint.clone());
        driver.set_hooks(self.on_panic, self.on_dropped);
        self.spawner.spawn(driver);
        Ok(Server { address: local, endpoint, runtime: PhantomData })
    }

    async fn bind_udp(&self, address: &str) -> io::Result<(R::UdpSocket, SocketAddr)> {
        let named = |error| AddressError::wrap("listen on", address, error);
        let resolved = resolve::<R>(address).await.map_err(named)?;
        let socket = first_good(&resolved, |address| self.udp.bind(address)).map_err(named)?;
        let local = socket.local_addr().map_err(named)?;
        Ok((R::udp_socket(socket).map_err(named)?, local))
    }

    /// Listens on `address` and gives each connection a session of the protocol and the listener that are made for it.
    pub(crate) async fn serve_tcp<M, L, ML>(
        self,
        address: &str,
        protocol: M,
        listener: ML,
    ) -> io::Result<Server<R>>
    where
        M: MakeProtocol,
        ML: Fn() -> L,
        L: Listener<<M::Protocol as Protocol>::Messages>,
        S: Spawn<AcceptTask<R, TcpIncoming<R>, S, Covered<T, M>, ML>>
            + Spawn<Driver<R, R::TcpStream, T::Over<M::Protocol>, L>>
            + Clone,
    {
        let named = |error| AddressError::wrap("listen on", address, error);
        let resolved = resolve::<R>(address).await.map_err(named)?;
        let listening = first_good(&resolved, |address| TcpIncoming::listen(address, self.tcp.clone()));
        let (incoming, local) = listening.map_err(named)?;
        Ok(self.start(incoming, local, protocol, listener))
    }

    /// Spawns the task that accepts.
    fn start<I, A, M, L, ML>(self, incoming: I, address: A, protocol: M, listener: ML) -> Server<R, A>
    where
        I: Accept,
        M: MakeProtocol,
        ML: Fn() -> L,
        L: Listener<<M::Protocol as Protocol>::Messages>,
        S: Spawn<AcceptTask<R, I, S, Covered<T, M>, ML>>
            + Spawn<Driver<R, I::Stream, T::Over<M::Protocol>, L>>
            + Clone,
    {
        let endpoint = Arc::new(Endpoint::default());
        let protocol = Covered { security: self.security, protocol };
        let (spawner, make) = (self.spawner.clone(), (protocol, listener));
        let mut task = AcceptTask::new(incoming, make, endpoint.clone(), spawner, self.config, self.limits);
        task.set_on_panic(self.on_panic);
        Spawn::<AcceptTask<R, I, S, Covered<T, M>, ML>>::spawn(&self.spawner, task);
        Server { address, endpoint, runtime: PhantomData }
    }
}

impl<R: Runtime, S, T> fmt::Debug for ServerBuilder<R, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("config", &self.config)
            .field("tcp", &self.tcp)
            .finish_non_exhaustive()
    }
}
