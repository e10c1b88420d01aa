//! [`drive`]: runs a session over an existing stream.

use std::any::Any;

use futures_io::{AsyncRead, AsyncWrite};
use getty_async_io::AnyIo;
use getty_async_io::getty_driver::core::{Protocol, Session};
use getty_async_io::getty_driver::{Driver, Listener};
use smol::net::TcpStream;
use socket2::SockRef;

use crate::Smol;

/// Drives `session` over a stream of your own, such as a socket accepted elsewhere, a TLS stream of another
/// library or an in-memory pipe. The future completes when the session has ended; spawn it or await it.
///
/// Addresses are known only for TCP sockets; see [`Driver::with_addresses`].
///
/// ```
/// use std::sync::Arc;
///
/// use bytes::Bytes;
/// use getty_smol::core::codec::LengthDelimited;
/// use getty_smol::core::{Config, Framed, Session};
/// use getty_smol::{Smol, Context, Items, Listener, drive, now};
/// use smol::io::{AsyncReadExt, AsyncWriteExt};
/// use smol::net::{Shutdown, TcpListener, TcpStream};
///
/// struct Echo;
///
/// impl Listener<Items<Bytes>> for Echo {
///     fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, message: Bytes) {
///         let _ = cx.send(message); // refused only if the session is closing
///     }
/// }
///
/// # smol::block_on(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut peer = TcpStream::connect(listener.local_addr()?).await?;
/// let (stream, _) = listener.accept().await?;
/// let protocol = Framed::new(LengthDelimited::new());
/// let session = Session::new(protocol, Arc::new(Config::default()), now::<Smol>());
/// let driving = smol::spawn(drive(session, stream, Echo));
///
/// peer.write_all(b"\0\0\0\x05hello").await?;
/// peer.shutdown(Shutdown::Write)?;
/// let mut answer = Vec::new();
/// peer.read_to_end(&mut answer).await?;
/// assert_eq!(answer, b"\0\0\0\x05hello");
/// assert!(driving.await.is_clean()); // the reason of the session's end
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub fn drive<S, P, L>(session: Session<P>, stream: S, listener: L) -> Driver<Smol, AnyIo<S>, P, L>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    P: Protocol,
    L: Listener<P::Messages>,
{
    Driver::new(session, AnyIo::new(stream, find_socket), listener)
}

fn find_socket(stream: &dyn Any) -> Option<SockRef<'_>> {
    if let Some(tcp) = stream.downcast_ref::<TcpStream>() {
        return Some(SockRef::from(tcp));
    }
    #[cfg(unix)]
    if let Some(unix) = stream.downcast_ref::<smol::net::unix::UnixStream>() {
        return Some(SockRef::from(unix));
    }
    None
}
