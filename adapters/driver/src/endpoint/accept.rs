//! [`AcceptTask`]: accepts the connections of a server.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use getty_core::Session;

use crate::drive::actor;
use crate::drive::driver::Driver;
use crate::drive::limits::ServerLimits;
use crate::drive::members::{Endpoint, Member, Phase};
use crate::drive::slots::Role;
use crate::endpoint::factory::{ListenerFactory, ListenerOf, MessagesOf, ProtocolFactory};
use crate::endpoint::security::Security;
use crate::endpoint::settings::Settings;
use crate::runtime::io::{Io, Timer};
use crate::runtime::{Accept, Runtime, Spawn, clock};
use crate::session::id::SessionId;

/// Maximum number of connections accepted before other tasks get a turn.
const ACCEPTS_PER_TURN: usize = 64;

/// The first and the longest pause after a failure to accept, such as too many open files.
const ACCEPT_BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// The task of a [`Server`](crate::Server) that accepts connections. It appears only in bounds of
/// [`ServerBuilder`](crate::ServerBuilder)'s methods.
#[must_use = "futures do nothing unless polled"]
pub struct AcceptTask<R: Runtime, I, S, T, F, K> {
    incoming: I,
    settings: Settings<S, T>,
    limits: ServerLimits,
    accepts: Option<Accepts>,
    protocol: F,
    listener: K,
    endpoint: Arc<Endpoint>,
    member: Member,
    backoff: Duration,
    /// The pause after a failure, or at the rate limit. Accepting continues when it fires.
    resting: Option<R::Timer>,
}

/// A spawner of all tasks of a server: the one that accepts from `I`, and its sessions on top of `T`, with
/// the protocols of `F` and the listeners of `K`. A function that starts servers on any spawner needs only
/// this bound. Every spawner of these tasks implements it.
pub trait SpawnServer<R, I, T, F, K>:
    Spawn<AcceptTask<R, I, Self, T, F, K>>
    + Spawn<Driver<R, I::Stream, T::Wrapped<F::Protocol>, ListenerOf<F, K>>>
    + Clone
where
    R: Runtime,
    I: Accept,
    T: Security,
    F: ProtocolFactory,
    K: ListenerFactory<MessagesOf<F>>,
{
}

impl<R, I, T, F, K, S> SpawnServer<R, I, T, F, K> for S
where
    R: Runtime,
    I: Accept,
    T: Security,
    F: ProtocolFactory,
    K: ListenerFactory<MessagesOf<F>>,
    S: Spawn<AcceptTask<R, I, S, T, F, K>>
        + Spawn<Driver<R, I::Stream, T::Wrapped<F::Protocol>, ListenerOf<F, K>>>
        + Clone,
{
}

/// Rate limit for accepting: connections per second, which is also the burst size.
#[derive(Debug)]
struct Accepts {
    /// The interval between two connections at the limit.
    each: Duration,
    /// When the next connection is due, if they come at even intervals. In the past while a burst is allowed.
    next: Instant,
}

impl Accepts {
    fn new(per_second: u32, now: Instant) -> Self {
        let each = Duration::from_secs(1) / per_second;
        Accepts { each, next: Self::earliest(each, now) }
    }

    /// The earliest value of `next`. It allows one second's worth of connections at once.
    fn earliest(each: Duration, now: Instant) -> Instant {
        now.checked_sub(Duration::from_secs(1) - each).unwrap_or(now)
    }

    /// Counts one connection. Returns when the next may be accepted, if that is later than now.
    fn count(&mut self, now: Instant) -> Option<Instant> {
        // `next` has passed, or this connection would not have been accepted. It is later than now only if
        // the clock has gone back.
        let due = self.next.max(Self::earliest(self.each, now)).min(now);
        self.next = due + self.each;
        (self.next > now).then_some(self.next)
    }
}

// No field is ever pinned.
impl<R: Runtime, I, S, T, F, K> Unpin for AcceptTask<R, I, S, T, F, K> {}

impl<R: Runtime, I, S, T, F, K> AcceptTask<R, I, S, T, F, K> {
    /// Makes a task that accepts from `incoming` and is a member of `endpoint`. `make` makes the protocol and
    /// the listener of each session.
    pub(crate) fn new(
        incoming: I,
        make: (F, K),
        endpoint: Arc<Endpoint>,
        settings: Settings<S, T>,
        limits: ServerLimits,
    ) -> Self {
        let (protocol, listener) = make;
        AcceptTask {
            incoming,
            settings,
            accepts: limits.accepts_per_second.map(|rate| Accepts::new(rate, R::now())),
            limits,
            protocol,
            listener,
            member: endpoint.join(Role::Acceptor),
            endpoint,
            backoff: ACCEPT_BACKOFF.0,
            resting: None,
        }
    }
}

impl<R, I, S, T, F, K> AcceptTask<R, I, S, T, F, K>
where
    R: Runtime,
    I: Accept,
    T: Security,
    F: ProtocolFactory,
    K: ListenerFactory<MessagesOf<F>>,
    S: Spawn<Driver<R, I::Stream, T::Wrapped<F::Protocol>, ListenerOf<F, K>>>,
{
    fn begin(&self, stream: I::Stream) {
        // A refused connection is closed here and never becomes a task.
        let Some(mut member) = self.endpoint.admit(&self.limits, || stream.peer_addr()) else { return };
        let settings = &self.settings;
        let make = || {
            let protocol = self.protocol.make()?;
            let protocol = T::wrap(settings.security.layer("")?, protocol);
            Ok((protocol, self.listener.make()))
        };
        let (protocol, listener) = match catch_unwind(AssertUnwindSafe(make)) {
            Ok(Ok(both)) => both,
            Ok(Err(error)) => return self.endpoint.accept_failed(&error),
            Err(panic) => return actor::report_panic(settings.on_panic.as_ref(), SessionId::next(), &*panic),
        };
        let session = Session::new(protocol, settings.config.clone(), clock::timestamp(R::now()));
        if !session.is_opening() {
            member.open(); // without a handshake, it is open before its first turn
        }
        let mut driver = Driver::new(session, stream, listener);
        driver.task().set_member(member);
        driver.task().set_on_panic(settings.on_panic.clone());
        settings.spawner.spawn(driver);
    }

    /// Pauses before the next attempt, longer each time, so that a lack of descriptors does not cause a busy
    /// loop.
    fn rest(&mut self) {
        self.resting = Some(R::timer(R::now() + self.backoff));
        self.backoff = (self.backoff * 2).min(ACCEPT_BACKOFF.1);
    }
}

impl<R, I, S, T, F, K> Future for AcceptTask<R, I, S, T, F, K>
where
    R: Runtime,
    I: Accept,
    T: Security,
    F: ProtocolFactory,
    K: ListenerFactory<MessagesOf<F>>,
    S: Spawn<Driver<R, I::Stream, T::Wrapped<F::Protocol>, ListenerOf<F, K>>>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = &mut *self;
        this.member.register(cx.waker());
        if this.member.phase() != Phase::Running {
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
                    let next = this.accepts.as_mut().and_then(|accepts| accepts.count(R::now()));
                    this.resting = next.map(R::timer);
                }
                // Only this connection failed; the next may already be waiting.
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    this.endpoint.accept_failed(&error);
                    this.rest();
                }
            }
        }
        R::yield_now(cx);
        Poll::Pending
    }
}

fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
