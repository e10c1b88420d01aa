//! Connecting: [`ConnectTcp`] races the addresses of a name, [`ConnectUnix`] waits for room in the accept
//! queue of a Unix socket.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::endpoint::resolve::resolve;
#[cfg(unix)]
use crate::runtime::UnixRuntime;
use crate::runtime::io::{Io, Timer};
use crate::runtime::{Runtime, clock};
use crate::socket::tcp::TcpOptions;
#[cfg(unix)]
use crate::socket::unix;

/// Time before the next address of a name is tried in parallel: the "Connection Attempt Delay" of RFC 8305,
/// with its recommended value.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// The first and the longest wait before a Unix socket with a full accept queue is tried again. The system
/// does not report when there is room.
#[cfg(unix)]
const FULL_QUEUE_WAIT: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

type Boxed<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// Resolves a name and connects to the first of its addresses that answers, by "Happy Eyeballs" (RFC 8305).
/// Address families take turns. The next address is tried once one has failed, or has not answered within 250
/// ms. The first connection counts, and the other attempts are dropped. Querying both families at once, as
/// the RFC advises, is up to the resolver.
///
/// It appears only in bounds.
#[must_use = "futures do nothing unless polled"]
pub struct ConnectTcp<R: Runtime> {
    options: TcpOptions,
    limit: Limit<R>,
    resolving: Option<Boxed<Vec<SocketAddr>>>,
    /// Addresses not tried yet.
    addresses: VecDeque<SocketAddr>,
    attempts: Vec<Boxed<R::TcpStream>>,
    /// Fires when the next address is due.
    next: Option<R::Timer>,
    failure: io::Error,
}

// No field is ever pinned.
impl<R: Runtime> Unpin for ConnectTcp<R> {}

impl<R: Runtime> ConnectTcp<R> {
    /// Connects to `address` (`HOST:PORT`) within `timeout`.
    pub(crate) fn new(address: &str, timeout: Duration, options: TcpOptions) -> Self {
        let address = address.to_owned();
        ConnectTcp {
            options,
            limit: Limit::new(timeout),
            resolving: Some(Box::pin(async move { resolve::<R>(&address).await })),
            addresses: VecDeque::new(),
            attempts: Vec::new(),
            next: None,
            failure: io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
        }
    }

    fn try_next(&mut self) {
        if let Some(address) = self.addresses.pop_front() {
            self.attempts.push(Box::pin(R::tcp_connect(address)));
            self.next = (!self.addresses.is_empty()).then(|| R::timer(clock::after::<R>(NEXT_ADDRESS_AFTER)));
        }
    }

    /// Polls every attempt, and tries the next address for each one that failed. Returns the first
    /// connection, if there is one.
    fn poll_attempts(&mut self, cx: &mut Context<'_>) -> Option<R::TcpStream> {
        let mut i = 0;
        while let Some(attempt) = self.attempts.get_mut(i) {
            let Poll::Ready(result) = attempt.as_mut().poll(cx) else {
                i += 1;
                continue;
            };
            drop(self.attempts.remove(i));
            let usable = result.and_then(|stream| {
                refuse_itself(stream.local_addr(), stream.peer_addr())?;
                R::apply(&stream, &self.options)?;
                Ok(stream)
            });
            match usable {
                Ok(stream) => return Some(stream),
                Err(error) => {
                    self.failure = error;
                    self.try_next();
                }
            }
        }
        None
    }
}

impl<R: Runtime> Future for ConnectTcp<R> {
    type Output = io::Result<R::TcpStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<R::TcpStream>> {
        let this = &mut *self;
        if let Some(resolving) = &mut this.resolving {
            match resolving.as_mut().poll(cx) {
                Poll::Ready(result) => {
                    this.resolving = None;
                    this.addresses = families_in_turn(result?);
                }
                Poll::Pending => return this.limit.poll(cx),
            }
        }
        loop {
            if let Some(stream) = this.poll_attempts(cx) {
                return Poll::Ready(Ok(stream));
            }
            let waits = !this.attempts.is_empty()
                && this.next.as_mut().is_none_or(|timer| timer.poll(cx).is_pending());
            if waits {
                return this.limit.poll(cx);
            }
            if this.addresses.is_empty() {
                let failure = std::mem::replace(&mut this.failure, io::ErrorKind::Other.into());
                return Poll::Ready(Err(failure));
            }
            this.try_next();
        }
    }
}

/// The addresses in their order without duplicates, but with families taking turns, beginning with the family
/// of the first.
fn families_in_turn(mut addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let mut seen = Vec::new();
    addresses.retain(|address| {
        let new = !seen.contains(address);
        seen.push(*address);
        new
    });
    let first_is_ipv4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (same, other): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first_is_ipv4);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut in_turn = VecDeque::new();
    loop {
        let pair = [same.next(), other.next()];
        if pair == [None, None] {
            return in_turn;
        }
        in_turn.extend(pair.into_iter().flatten());
    }
}

/// Refuses a connection of a socket to itself. A client that connects to a port of its own machine, within
/// the system's ephemeral range, may be given that same port. Both ends are then the same socket, and
/// everything sent comes back.
fn refuse_itself(local: Option<SocketAddr>, peer: Option<SocketAddr>) -> io::Result<()> {
    if local.is_some() && local == peer {
        let text = "connected to itself: no server listens there";
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, text));
    }
    Ok(())
}

/// Waits for room in the accept queue of a Unix socket, and connects. It appears only in bounds.
#[cfg(unix)]
#[must_use = "futures do nothing unless polled"]
pub struct ConnectUnix<R: UnixRuntime> {
    path: PathBuf,
    limit: Limit<R>,
    wait: Duration,
    waiting: Option<R::Timer>,
}

#[cfg(unix)]
impl<R: UnixRuntime> Unpin for ConnectUnix<R> {}

#[cfg(unix)]
impl<R: UnixRuntime> ConnectUnix<R> {
    /// Connects to the socket at `path` within `timeout`.
    pub(crate) fn new(path: &Path, timeout: Duration) -> Self {
        ConnectUnix {
            path: path.to_owned(),
            limit: Limit::new(timeout),
            wait: FULL_QUEUE_WAIT.0,
            waiting: None,
        }
    }
}

#[cfg(unix)]
impl<R: UnixRuntime> Future for ConnectUnix<R> {
    type Output = io::Result<R::UnixStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<R::UnixStream>> {
        let this = &mut *self;
        loop {
            if this.waiting.as_mut().is_some_and(|timer| timer.poll(cx).is_pending()) {
                return this.limit.poll(cx);
            }
            match unix::connect(&this.path) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    this.waiting = Some(R::timer(clock::after::<R>(this.wait)));
                    this.wait = (this.wait * 2).min(FULL_QUEUE_WAIT.1);
                }
                result => return Poll::Ready(result.and_then(R::unix_stream)),
            }
        }
    }
}

/// Time limit for connecting.
struct Limit<R: Runtime> {
    timeout: Duration,
    /// Made at the first wait.
    timer: Option<R::Timer>,
}

impl<R: Runtime> Limit<R> {
    fn new(timeout: Duration) -> Self {
        Limit { timeout, timer: None }
    }

    fn poll<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let timer = self.timer.get_or_insert_with(|| R::timer(clock::after::<R>(self.timeout)));
        timer.poll(cx).map(|()| {
            let text = format!("no connection within {:?}", self.timeout);
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_beginning_with_the_resolvers_choice() {
        let addresses = |text: &str| -> Vec<SocketAddr> {
            text.split_whitespace().map(|address| address.parse().unwrap()).collect()
        };
        for (given, tried) in [
            ("[::1]:1 [::2]:1 [::3]:1 1.1.1.1:1", "[::1]:1 1.1.1.1:1 [::2]:1 [::3]:1"),
            ("1.1.1.1:1 [::1]:1 2.2.2.2:1", "1.1.1.1:1 [::1]:1 2.2.2.2:1"),
            ("1.1.1.1:1 1.1.1.1:1", "1.1.1.1:1"),
            ("", ""),
        ] {
            assert_eq!(families_in_turn(addresses(given)), addresses(tried), "{given}");
        }
    }

    #[test]
    fn a_connection_to_itself_is_refused() {
        let one = "127.0.0.1:40000".parse().ok();
        let other = "127.0.0.1:40001".parse().ok();
        assert_eq!(refuse_itself(one, one).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(refuse_itself(one, other).is_ok());
        assert!(refuse_itself(None, None).is_ok(), "without addresses, it cannot be known");
    }
}
