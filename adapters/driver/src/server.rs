//! [`Server`]: accepts connections and gives each a session.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use getty_core::codec::{Decoder, Encoder};
use getty_core::{Config, Framed, Items, Protocol, Session, StreamProtocol};

use crate::driver::{self, OnPanic};
use crate::endpoint::{Endpoint, Member, Phase, Role};
use crate::{Accept, AddressError, Driver, Listener, Runtime, SessionId, Spawn, TcpOptions, Timer, clock};

/// How many connections are accepted before other tasks have their turn.
const ACCEPTS_PER_TURN: usize = 64;

/// How long accepting rests after a failure (such as too many open files): at first, and at the most.
const ACCEPT_BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// A running server. Dropping it stops accepting and aborts its sessions.
#[derive(Debug)]
pub struct Server<R> {
    local: SocketAddr,
    endpoint: Arc<Endpoint>,
    runtime: PhantomData<fn(R)>,
}

impl<R: Runtime> Server<R> {
    /// Starts from the defaults.
    pub fn builder() -> ServerBuilder<R> {
        ServerBuilder {
            config: Arc::new(Config::default()),
            tcp: TcpOptions::default(),
            spawner: R::Spawner::default(),
            on_panic: None,
            runtime: PhantomData,
        }
    }

    /// The address it listens on, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.endpoint.sessions()
    }

    /// Stops accepting, tells every listener (`on_shutdown`, which by default closes gracefully after the
    /// messages that are already here), waits up to `grace`, then aborts what is left.
    ///
    /// # Cancel safety
    /// Dropping the future drops the server: what is left is aborted.
    pub async fn shutdown(self, grace: Duration) -> Shutdown {
        self.endpoint.enter(Phase::ShuttingDown);
        let mut timer = R::timer(clock::after::<R>(grace));
        let mut empty = pin!(self.endpoint.wait_empty());
        let in_time = poll_fn(|cx| {
            if empty.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            timer.poll(cx).map(|()| false)
        });
        if in_time.await {
            return Shutdown { aborted: 0 };
        }
        let aborted = self.endpoint.sessions();
        self.endpoint.enter(Phase::Aborting);
        self.endpoint.wait_empty().await;
        Shutdown { aborted }
    }
}

impl<R> Drop for Server<R> {
    fn drop(&mut self) {
        self.endpoint.enter(Phase::Aborting);
    }
}

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// How many sessions had to be aborted because they were not over in time.
    pub aborted: usize,
}

/// Makes a [`Server`].
#[must_use = "a builder does nothing until it is bound"]
pub struct ServerBuilder<R: Runtime, S = <R as Runtime>::Spawner> {
    config: Arc<Config>,
    tcp: TcpOptions,
    spawner: S,
    on_panic: Option<OnPanic>,
    runtime: PhantomData<fn(R)>,
}

impl<R: Runtime, S> ServerBuilder<R, S> {
    /// Limits and periods of every session. Default: [`Config::default`].
    pub fn config(mut self, config: Arc<Config>) -> Self {
        self.config = config;
        self
    }

    /// Options of the sockets.
    pub fn tcp_options(mut self, options: TcpOptions) -> Self {
        self.tcp = options;
        self
    }

    /// What runs the tasks. By default the runtime's own; another one may be local to a thread.
    pub fn spawner<T>(self, spawner: T) -> ServerBuilder<R, T> {
        let ServerBuilder { config, tcp, on_panic, runtime, .. } = self;
        ServerBuilder { config, tcp, spawner, on_panic, runtime }
    }

    /// Is told when a callback of a listener panics, or a function that makes codecs or listeners. The session is
    /// ended in any case.
    pub fn on_panic(mut self, hook: impl Fn(SessionId, &(dyn Any + Send)) + Send + Sync + 'static) -> Self {
        self.on_panic = Some(Arc::new(hook));
        self
    }

    /// Listens on `address` (`HOST:PORT`; port 0 takes a free one) and gives each connection a session with
    /// the codec and the listener that the two functions make.
    ///
    /// # Errors
    /// The address can't be resolved, or not be listened on; the error names it.
    pub async fn tcp<C, O, L, MC, ML>(self, address: &str, codec: MC, listener: ML) -> io::Result<Server<R>>
    where
        MC: Fn() -> C,
        ML: Fn() -> L,
        C: Decoder + Encoder<O>,
        L: Listener<Items<C::Item, O>>,
        S: Spawn<AcceptTask<R, S, FramedBy<MC, O>, ML>>
            + Spawn<Driver<R, R::TcpStream, Framed<C, O>, L>>
            + Clone,
    {
        self.serve(address, FramedBy { codec, out: PhantomData }, listener).await
    }

    /// Listens on `address` and gives each connection a session of the protocol and the listener that are made for it.
    pub(crate) async fn serve<M, L, ML>(
        self,
        address: &str,
        protocol: M,
        listener: ML,
    ) -> io::Result<Server<R>>
    where
        M: MakeProtocol,
        ML: Fn() -> L,
        L: Listener<<M::Protocol as Protocol>::Messages>,
        S: Spawn<AcceptTask<R, S, M, ML>> + Spawn<Driver<R, R::TcpStream, M::Protocol, L>> + Clone,
    {
        let named = |error| AddressError::wrap("listen on", address, error);
        let resolved = R::resolve(address).await.map_err(named)?;
        let socket = self.listen(&resolved).map_err(named)?;
        let incoming = R::tcp_listener(socket).map_err(named)?;
        let local = incoming.local_addr().map_err(named)?;
        let endpoint = Arc::new(Endpoint::default());
        let task = AcceptTask {
            incoming,
            config: self.config,
            tcp: self.tcp,
            spawner: self.spawner.clone(),
            on_panic: self.on_panic,
            protocol,
            listener,
            endpoint: endpoint.clone(),
            member: endpoint.join(Role::Acceptor),
            backoff: ACCEPT_BACKOFF.0,
            resting: None,
        };
        Spawn::<AcceptTask<R, S, M, ML>>::spawn(&self.spawner, task);
        Ok(Server { local, endpoint, runtime: PhantomData })
    }

    /// Listens on the first of `addresses` that can be listened on.
    fn listen(&self, addresses: &[SocketAddr]) -> io::Result<std::net::TcpListener> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for &address in addresses {
            match self.tcp.listen(address) {
                Ok(socket) => return Ok(socket),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

impl<R: Runtime, S> fmt::Debug for ServerBuilder<R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("config", &self.config)
            .field("tcp", &self.tcp)
            .finish_non_exhaustive()
    }
}

/// Makes the protocol of each session of a [`Server`]. It appears in bounds only.
pub trait MakeProtocol {
    /// What the sessions speak.
    type Protocol: StreamProtocol;

    /// The protocol of the next session.
    fn make(&self) -> Self::Protocol;
}

/// Makes sessions of a codec. It appears in bounds of [`ServerBuilder::tcp`] only.
#[derive(Debug)]
pub struct FramedBy<MC, O> {
    codec: MC,
    out: PhantomData<fn(O)>,
}

impl<MC, C, O> MakeProtocol for FramedBy<MC, O>
where
    MC: Fn() -> C,
    C: Decoder + Encoder<O>,
{
    type Protocol = Framed<C, O>;

    fn make(&self) -> Framed<C, O> {
        Framed::new((self.codec)())
    }
}

/// The task of a [`Server`] that accepts connections. It appears in bounds of [`ServerBuilder`]'s methods only.
#[must_use = "futures do nothing unless polled"]
pub struct AcceptTask<R: Runtime, S, M, ML> {
    incoming: R::TcpListener,
    config: Arc<Config>,
    tcp: TcpOptions,
    spawner: S,
    on_panic: Option<OnPanic>,
    protocol: M,
    listener: ML,
    endpoint: Arc<Endpoint>,
    member: Member,
    backoff: Duration,
    /// Accepting failed: it is tried again when this fires.
    resting: Option<R::Timer>,
}

// No field is ever pinned.
impl<R: Runtime, S, M, ML> Unpin for AcceptTask<R, S, M, ML> {}

impl<R, S, M, ML, L> AcceptTask<R, S, M, ML>
where
    R: Runtime,
    M: MakeProtocol,
    ML: Fn() -> L,
    L: Listener<<M::Protocol as Protocol>::Messages>,
    S: Spawn<Driver<R, R::TcpStream, M::Protocol, L>>,
{
    fn begin(&self, stream: R::TcpStream) {
        // A socket that takes no options is one whose peer has gone; its session will find out.
        let _ = R::apply(&stream, &self.tcp);
        let made = catch_unwind(AssertUnwindSafe(|| (self.protocol.make(), (self.listener)())));
        let (protocol, listener) = match made {
            Ok(made) => made,
            Err(panic) => return driver::tell_panic(self.on_panic.as_ref(), SessionId::next(), &*panic),
        };
        let session = Session::new(protocol, self.config.clone(), clock::timestamp(R::now()));
        let mut driver = Driver::new(session, stream, listener);
        driver.set_member(self.endpoint.join(Role::Session));
        driver.set_on_panic(self.on_panic.clone());
        self.spawner.spawn(driver);
    }

    /// Rests before the next try, longer each time, so that a lack of descriptors does not become a busy loop.
    fn rest(&mut self) {
        self.resting = Some(R::timer(R::now() + self.backoff));
        self.backoff = (self.backoff * 2).min(ACCEPT_BACKOFF.1);
    }
}

impl<R, S, M, ML, L> Future for AcceptTask<R, S, M, ML>
where
    R: Runtime,
    M: MakeProtocol,
    ML: Fn() -> L,
    L: Listener<<M::Protocol as Protocol>::Messages>,
    S: Spawn<Driver<R, R::TcpStream, M::Protocol, L>>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.member.register(cx.waker()) != Phase::Running {
            return Poll::Ready(());
        }
        for _ in 0..ACCEPTS_PER_TURN {
            if let Some(timer) = &mut this.resting {
                ready!(timer.poll(cx));
                this.resting = None;
            }
            match ready!(this.incoming.poll_accept(cx)) {
                Ok(stream) => {
                    this.backoff = ACCEPT_BACKOFF.0;
                    this.begin(stream);
                }
                // This one connection is gone; the next may be there already.
                Err(error) if is_of_connection(&error) => {}
                Err(_) => this.rest(),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
