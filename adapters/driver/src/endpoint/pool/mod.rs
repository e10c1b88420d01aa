//! [`Pool`]: a constant number of sessions to one or more addresses.

mod addresses;
mod dial;
mod roster;
mod select;
mod stats;
mod task;

use std::fmt;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::marker::PhantomData;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use event_listener::EventListener;
#[cfg(feature = "websocket")]
use getty_core::websocket::{ClientRequest, Form, WebSocket};
use getty_core::{Backoff, Out, Protocol, SendError};

use crate::drive::members::Phase;
use crate::endpoint::client::ClientBuilder;
use crate::endpoint::factory::{ListenerFactory, MessagesOf, ProtocolFactory};
use crate::endpoint::security::Security;
use crate::endpoint::settings::Settings;
#[cfg(unix)]
use crate::runtime::UnixRuntime;
use crate::runtime::io::Timer;
use crate::runtime::{Runtime, Spawn, clock};
use crate::session::handle::Handle;
use crate::socket::tcp::TcpOptions;

use addresses::Addresses;
pub use addresses::Target;
#[cfg(unix)]
pub use dial::DialUnix;
#[cfg(feature = "websocket")]
pub use dial::DialWebSocket;
pub use dial::{Dial, DialTcp};
use roster::Roster;
pub use select::Select;
pub use stats::{AddressStats, NotReady, NotReadyWhy, PoolClosed, PoolStats};
use task::Plan;
pub use task::PoolTask;

/// Options of a [`Pool`].
#[derive(Debug, Clone)]
pub struct PoolOptions {
    sessions: usize,
    backoff: Backoff,
    select: Select,
}

impl Default for PoolOptions {
    fn default() -> Self {
        PoolOptions { sessions: 1, backoff: Backoff::default(), select: Select::default() }
    }
}

impl PoolOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of sessions, over all addresses. Default 1, which is a client that reconnects. At
    /// least 1.
    #[must_use]
    pub fn sessions(mut self, sessions: usize) -> Self {
        self.sessions = sessions.max(1);
        self
    }

    /// Sets how long an address rests after a failure, and when it is given up. Default: [`Backoff::new`],
    /// which never gives up.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets which session [`Pool::get`] and [`Pool::send`] take. Default [`Select::RoundRobin`].
    #[must_use]
    pub fn select(mut self, select: Select) -> Self {
        self.select = select;
        self
    }
}

/// A constant number of sessions to one or more addresses: whenever one ends, for whatever reason, another
/// takes its place. Made by [`ClientBuilder::pool`].
///
/// ```no_run
/// # use std::time::Duration;
/// # use bytes::Bytes;
/// # use getty_driver::core::{Framed, codec::LengthDelimited};
/// # use getty_driver::{Client, DialTcp, Items, ListenerFactory, Plaintext, PoolOptions, PoolTask};
/// # use getty_driver::{Runtime, Spawn};
/// # async fn example<R, K>(printer: K) -> Result<(), Box<dyn std::error::Error>>
/// # where
/// #     R: Runtime,
/// #     K: ListenerFactory<Items<Bytes>>,
/// #     R::Spawner: Spawn<PoolTask<R, DialTcp<R, Plaintext, fn() -> Framed<LengthDelimited>>, K>>,
/// # {
/// # let protocol: fn() -> Framed<LengthDelimited> = || Framed::new(LengthDelimited::new());
/// let options = PoolOptions::new().sessions(4);
/// // With an adapter: Client::builder(), and .tcp(addresses, framed(LengthDelimited::new), || Printer)
/// let addresses = ["one.example:7000", "two.example:7000"];
/// let pool = Client::<R>::builder().pool(options).tcp(addresses, protocol, printer)?;
/// pool.wait_ready(Duration::from_secs(5)).await?; // one session is enough; the others come meanwhile
/// pool.send(Bytes::from("hello")).await?;
/// pool.close(Duration::from_secs(5)).await;
/// # Ok(()) }
/// ```
///
/// # Sessions
/// Each has its own protocol and listener, and a task that connects, drives it to its end, and connects
/// again. The end of a session does not wait for the next one: [`on_close`](crate::Listener::on_close) is
/// called at once, before anything is connected. It does not matter which side ended the session, or why: one
/// that was closed through its [`Handle`] or refused by its listener is replaced too, after a pause. To end
/// all sessions, [`close`](Self::close) the pool.
///
/// # Addresses
/// Each session goes to the address with the fewest; ties rotate from a random start. Names are resolved
/// again each time. An address that fails rests for as long as the [`Backoff`] requires, while others are
/// used. When it is due, one session tries it, and the others follow once that one is open. When an address
/// recovers, existing sessions stay where they are. The addresses can be changed:
/// [`set_addresses`](Self::set_addresses).
///
/// # Posting
/// [`send`](Self::send) and [`try_send`](Self::try_send) post to one of the open sessions. Two items keep
/// their order only if both go to the same one. As with a handle, posted does not mean sent: an item that a
/// session has taken may be lost with it. An item still in the queue of a session that ends goes to another
/// session, or is returned by [`close`](Self::close) in the end. To know the outcome of each item, use
/// [`get`](Self::get) and [`Handle::send_flushed`].
///
/// Dropping the pool aborts its sessions and drops the posted items.
///
/// `A` is the type of its addresses: `HOST:PORT`, the path of a Unix socket, or a WebSocket request.
pub struct Pool<R, O, A: Target = String> {
    roster: Arc<Roster<O, A>>,
    runtime: PhantomData<fn(R)>,
}

impl<R: Runtime, O, A: Target> Pool<R, O, A> {
    /// Waits until a session is open: its handshakes are done, and its listener has accepted it.
    ///
    /// # Errors
    /// [`NotReady`] after `timeout`, or as soon as all addresses are given up or the pool is closed. It names
    /// the last error of each address. A timeout does not stop the pool.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<(), NotReady> {
        self.wait_open(1, timeout).await
    }

    /// Waits until all [`sessions`](PoolOptions::sessions) are open.
    ///
    /// # Errors
    /// As for [`wait_ready`](Self::wait_ready).
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn wait_all(&self, timeout: Duration) -> Result<(), NotReady> {
        self.wait_open(self.roster.wanted(), timeout).await
    }

    async fn wait_open(&self, wanted: usize, timeout: Duration) -> Result<(), NotReady> {
        let mut timer = R::timer(clock::after::<R>(timeout));
        loop {
            let mut changed = self.roster.listen();
            let open = self.roster.open();
            if open >= wanted {
                return Ok(());
            }
            let not_ready = |why| NotReady {
                why,
                open,
                wanted,
                sessions: self.roster.wanted(),
                addresses: self.roster.address_stats(clock::timestamp(R::now())),
            };
            if self.roster.is_closed() {
                return Err(not_ready(NotReadyWhy::Closed));
            }
            if self.roster.is_given_up() {
                return Err(not_ready(NotReadyWhy::GivenUp));
            }
            let in_time = poll_fn(|cx| match Pin::new(&mut changed).poll(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => timer.poll(cx).map(|()| false),
            });
            if !in_time.await {
                return Err(not_ready(NotReadyWhy::TimedOut(timeout)));
            }
        }
    }

    /// An open session, chosen by the pool's [selection](PoolOptions::select). `None` if no session is open.
    pub fn get(&self) -> Option<Handle<O>> {
        self.roster.get()
    }

    /// All open sessions, in the order in which they opened.
    pub fn sessions(&self) -> Vec<Handle<O>> {
        self.roster.ready()
    }

    /// Posts an item to an open session that has room for it now, chosen by the pool's
    /// [selection](PoolOptions::select).
    ///
    /// # Errors
    /// [`SendError::Blocked`] if no open session has room, [`SendError::NotOpen`] if no session is open,
    /// [`SendError::Closed`] if no session will ever be open, because the pool is closed or all addresses are
    /// given up. Each returns the item.
    pub fn try_send(&self, item: O) -> Result<(), SendError<O>> {
        self.roster.post(item)
    }

    /// Posts an item to an open session; waits until one has room for it.
    ///
    /// # Errors
    /// [`SendError::Closed`] with the item, if the pool is closed or all addresses are given up.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, the item was not posted and is dropped with it.
    pub async fn send(&self, mut item: O) -> Result<(), SendError<O>> {
        let mut heard: Vec<EventListener> = Vec::new();
        loop {
            item = match self.roster.post(item) {
                Err(SendError::Blocked(back) | SendError::NotOpen(back)) => back,
                result => return result,
            };
            if heard.is_empty() {
                // Room may have appeared before this task listened: try once more.
                heard.push(self.roster.listen());
                heard.extend(self.roster.ready().iter().map(Handle::listen_for_room));
                continue;
            }
            poll_fn(|cx| match heard.iter_mut().any(|heard| Pin::new(heard).poll(cx).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
            heard.clear();
        }
    }

    /// Replaces the addresses. An address that stays keeps its state and its sessions.
    ///
    /// The sessions of a removed address are drained: the pool posts nothing more to them, their listeners
    /// are asked to end ([`on_shutdown`](crate::Listener::on_shutdown), as when the pool is closed), and
    /// sessions to other addresses take their place meanwhile. Attempts to connect to a removed address are
    /// abandoned, and other addresses tried instead. If there is a new address, the others also give up
    /// attempts, and then drain sessions, beyond an even share, so that it gets its own.
    ///
    /// A listener may take any time to end a drained session, until a later change drains its successor too:
    /// only one session drains beside each session of the pool. The earlier one is then closed gracefully
    /// once it has drained for [`Config::close_timeout`](getty_core::Config::close_timeout), and the next
    /// session is made when it has ended.
    ///
    /// An address that can never be connected to, such as a host for which no certificate can be valid,
    /// counts as failing; see [`stats`](Self::stats). A pool without addresses waits for new ones.
    pub fn set_addresses<I>(&self, addresses: I)
    where
        I: IntoIterator,
        I::Item: Into<A>,
    {
        self.roster.set_addresses(addresses.into_iter().map(Into::into).collect());
    }

    /// Statistics of its sessions and addresses.
    pub fn stats(&self) -> PoolStats {
        self.roster.stats(clock::timestamp(R::now()))
    }

    /// Stops connecting, calls the [`on_shutdown`](crate::Listener::on_shutdown) of every listener (by
    /// default, a graceful close after the messages already received), waits up to `grace`, then aborts the
    /// remaining sessions. Returns the items that no session took.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the pool closing: it no longer connects. The remaining sessions are aborted
    /// when the pool is dropped, or when `close` is called again and its grace is over.
    pub async fn close(&self, grace: Duration) -> PoolClosed<O> {
        self.roster.endpoint.enter(Phase::ShuttingDown);
        self.roster.notify(); // callers that wait for a session learn that none will open
        let aborted = self.roster.endpoint.shut_down::<R>(grace).await;
        PoolClosed { aborted, unsent: self.roster.take_carried() }
    }
}

impl<R, O, A: Target> Drop for Pool<R, O, A> {
    fn drop(&mut self) {
        self.roster.endpoint.enter(Phase::Aborting);
    }
}

impl<R, O, A: Target> fmt::Debug for Pool<R, O, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("open", &self.roster.open()).finish_non_exhaustive()
    }
}

impl<R: Runtime, S, T: Security> ClientBuilder<R, S, T> {
    /// Builds a pool of sessions instead of one.
    pub fn pool(self, options: PoolOptions) -> PoolBuilder<R, S, T> {
        PoolBuilder { client: self, options }
    }
}

/// Builds a [`Pool`].
///
/// The pool's tasks share the functions that make protocols and listeners. If the spawner requires `Send`, as
/// those of the runtimes do, the functions must be `Send + Sync`.
#[must_use = "a builder does nothing until it connects"]
pub struct PoolBuilder<R: Runtime, S, T> {
    client: ClientBuilder<R, S, T>,
    options: PoolOptions,
}

impl<R: Runtime, S, T: Security> PoolBuilder<R, S, T> {
    /// Connects to `addresses` (each `HOST:PORT`), with a protocol and a listener made by the two functions
    /// for each session. Returns at once; see [`Pool::wait_ready`].
    ///
    /// # Errors
    /// `addresses` is empty, or, with TLS, no certificate can be valid for the host of one. Whether the
    /// addresses answer is not known yet.
    pub fn tcp<A, F, K>(
        self,
        addresses: impl IntoIterator<Item = A>,
        protocol: F,
        listener: K,
    ) -> io::Result<Pool<R, Out<F::Protocol>>>
    where
        A: Into<String>,
        F: ProtocolFactory,
        K: ListenerFactory<MessagesOf<F>>,
        S: Spawn<PoolTask<R, DialTcp<R, T, F>, K>>,
    {
        let addresses: Vec<String> = addresses.into_iter().map(Into::into).collect();
        self.start(addresses, listener, |timeout, options, security| DialTcp {
            timeout,
            options,
            security,
            protocol,
            runtime: PhantomData,
        })
    }

    /// Connects to the Unix sockets at `paths`, as [`tcp`](Self::tcp) does. On Linux, a path that begins with
    /// a NUL is an abstract name.
    ///
    /// # Errors
    /// As for [`tcp`](Self::tcp); also [`io::ErrorKind::InvalidInput`] if a path has a NUL in any other
    /// place.
    #[cfg(unix)]
    pub fn unix<A, F, K>(
        self,
        paths: impl IntoIterator<Item = A>,
        protocol: F,
        listener: K,
    ) -> io::Result<Pool<R, Out<F::Protocol>, PathBuf>>
    where
        R: UnixRuntime,
        A: AsRef<Path>,
        F: ProtocolFactory,
        K: ListenerFactory<MessagesOf<F>>,
        S: Spawn<PoolTask<R, DialUnix<R, T, F>, K>>,
    {
        let paths: Vec<_> = paths.into_iter().map(|path| path.as_ref().to_owned()).collect();
        self.start(paths, listener, |timeout, _, security| DialUnix {
            timeout,
            security,
            protocol,
            runtime: PhantomData,
        })
    }

    /// Connects over WebSocket to the server of each of `requests`, as [`tcp`](Self::tcp) does. Every session
    /// to a server sends the same request. Messages have the form that the function `form` makes: `|| Whole`,
    /// `|| Packages::new(codec)` or `|| Parts`.
    ///
    /// # Errors
    /// As for [`tcp`](Self::tcp); also [`io::ErrorKind::InvalidInput`] for a `wss` request without
    /// `ClientBuilder::tls`, or the other way round.
    #[cfg(feature = "websocket")]
    pub fn websocket<MF, F, K>(
        self,
        requests: impl IntoIterator<Item = ClientRequest>,
        form: MF,
        listener: K,
    ) -> io::Result<Pool<R, Out<WebSocket<F>>, ClientRequest>>
    where
        MF: Fn() -> F,
        F: Form,
        K: ListenerFactory<F::Messages>,
        S: Spawn<PoolTask<R, DialWebSocket<R, T, MF>, K>>,
    {
        self.start(requests.into_iter().collect(), listener, |timeout, options, security| DialWebSocket {
            timeout,
            options,
            security,
            form,
            runtime: PhantomData,
        })
    }

    /// Spawns the tasks.
    fn start<D, K>(
        self,
        addresses: Vec<D::Address>,
        listener: K,
        dial: impl FnOnce(Duration, TcpOptions, T) -> D,
    ) -> io::Result<Pool<R, Out<D::Protocol>, D::Address>>
    where
        D: Dial,
        K: ListenerFactory<<D::Protocol as Protocol>::Messages>,
        S: Spawn<PoolTask<R, D, K>>,
    {
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a pool needs at least one address"));
        }
        let PoolOptions { sessions, backoff, select } = self.options;
        let ClientBuilder { settings, own, .. } = self.client;
        let Settings { config, tcp, on_panic, spawner, security, .. } = settings;
        let dial = dial(own.connect_timeout, tcp, security);
        addresses.iter().try_for_each(|address| dial.check(address))?;
        let plan = Arc::new(Plan { dial, listener, config, on_panic });
        // The system provides the seed of `RandomState`.
        let seed = RandomState::new().hash_one(0);
        let roster = Arc::new(Roster::new(select, sessions, Addresses::new(addresses, &backoff, seed)));
        let pool = Pool { roster: roster.clone(), runtime: PhantomData };
        for _ in 0..sessions {
            spawner.spawn(PoolTask::new(plan.clone(), roster.clone()));
        }
        Ok(pool)
    }
}

impl<R: Runtime, S, T> fmt::Debug for PoolBuilder<R, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder").field("client", &self.client).field("options", &self.options).finish()
    }
}
