//! [`Runtime`], [`UnixRuntime`], [`Spawn`] and [`Accept`]: what endpoints need from a runtime.

pub(crate) mod alarm;
pub(crate) mod clock;
pub(crate) mod futures;
pub(crate) mod io;
#[cfg(feature = "websocket")]
pub(crate) mod random;
pub(crate) mod thread_memory;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::task::{Context, Poll};
use std::time::Instant;

use crate::runtime::io::{Io, PacketIo, Timer};
use crate::socket::tcp::TcpOptions;

/// A runtime, as a type without values: its clock, timers and sockets.
pub trait Runtime: Send + Sync + Sized + 'static {
    /// A timer of the runtime.
    type Timer: Timer;
    /// A connected TCP socket.
    type TcpStream: Io;
    /// A listening TCP socket.
    type TcpListener: Accept<Stream = Self::TcpStream>;
    /// A UDP socket.
    type UdpSocket: PacketIo;
    /// What spawns tasks, if nothing else is chosen.
    type Spawner: Default + Clone;

    /// The time, by the clock that the timers use.
    fn now() -> Instant;

    /// A timer that fires at `at`.
    fn timer(at: Instant) -> Self::Timer;

    /// Arranges that the task of `cx` is polled again after everything else that is ready, the runtime's
    /// sources of events included. The caller then returns `Pending`.
    ///
    /// The default wakes the task at once, which is enough where tasks take turns with the sources of events.
    /// Other runtimes poll a task that wakes itself many times before they look at these.
    fn yield_now(cx: &mut Context<'_>) {
        cx.waker().wake_by_ref();
    }

    /// The addresses behind `address`, which is `HOST:PORT`, without blocking the thread.
    fn resolve(address: &str) -> impl Future<Output = std::io::Result<Vec<SocketAddr>>> + Send;

    /// Makes a listening socket, as [`TcpOptions::listen`] does, the runtime's own.
    ///
    /// # Errors
    /// The runtime does not take it.
    fn tcp_listener(listener: TcpListener) -> std::io::Result<Self::TcpListener>;

    /// Connects to `address`; the options are not applied yet.
    fn tcp_connect(address: SocketAddr) -> impl Future<Output = std::io::Result<Self::TcpStream>> + Send;

    /// Applies `options` to a connected socket.
    ///
    /// # Errors
    /// The system does not take an option.
    fn apply(stream: &Self::TcpStream, options: &TcpOptions) -> std::io::Result<()>;

    /// Makes a socket, as [`UdpOptions::bind`](crate::UdpOptions::bind) and
    /// [`connect`](crate::UdpOptions::connect) do, the runtime's own.
    ///
    /// # Errors
    /// The runtime does not take it.
    fn udp_socket(socket: UdpSocket) -> std::io::Result<Self::UdpSocket>;
}

/// A runtime with Unix domain sockets. Both functions are given non-blocking sockets.
#[cfg(unix)]
pub trait UnixRuntime: Runtime {
    /// A connected Unix socket.
    type UnixStream: Io;
    /// A listening Unix socket.
    type UnixListener: Accept<Stream = Self::UnixStream>;

    /// Makes a listening socket the runtime's own.
    ///
    /// # Errors
    /// The runtime does not take it.
    fn unix_listener(listener: std::os::unix::net::UnixListener) -> std::io::Result<Self::UnixListener>;

    /// Makes a connected socket the runtime's own.
    ///
    /// # Errors
    /// The runtime does not take it.
    fn unix_stream(stream: std::os::unix::net::UnixStream) -> std::io::Result<Self::UnixStream>;
}

/// Runs futures of type `F` as tasks. Implemented for what a runtime's futures may be: a spawner for several
/// threads asks for `F: Send`, one for a single thread does not.
pub trait Spawn<F> {
    /// Runs `future` to its end in a task of its own.
    fn spawn(&self, future: F);
}

/// A listening socket.
pub trait Accept: Unpin {
    /// What is accepted.
    type Stream: Io;

    /// Takes the next connection.
    ///
    /// # Errors
    /// Nothing could be accepted; the listener is still there.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<Self::Stream>>;
}
