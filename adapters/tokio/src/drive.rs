//! [`drive`]: runs a session over an existing stream.

use getty_driver::core::{Protocol, Session};
use getty_driver::{Driver, Listener};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Tokio, TokioIo};

/// Drives `session` over a stream of your own, such as a socket accepted elsewhere, a TLS stream of another
/// library or a [`tokio::io::duplex`]. The future completes when the session has ended; spawn it or await it.
///
/// ```
/// use std::sync::Arc;
///
/// use bytes::Bytes;
/// use getty_tokio::core::codec::LengthDelimited;
/// use getty_tokio::core::{Config, Framed, Session};
/// use getty_tokio::{Context, Items, Listener, Tokio, drive, now};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// struct Echo;
///
/// impl Listener<Items<Bytes>> for Echo {
///     fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, message: Bytes) {
///         let _ = cx.send(message); // refused only if the session is closing
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (mut peer, stream) = tokio::io::duplex(1024);
/// let protocol = Framed::new(LengthDelimited::new());
/// let session = Session::new(protocol, Arc::new(Config::default()), now::<Tokio>());
/// let driving = tokio::spawn(drive(session, stream, Echo));
///
/// peer.write_all(b"\0\0\0\x05hello").await?;
/// peer.shutdown().await?;
/// let mut answer = Vec::new();
/// peer.read_to_end(&mut answer).await?;
/// assert_eq!(answer, b"\0\0\0\x05hello");
/// assert!(driving.await?.is_clean()); // the reason of the session's end
/// # Ok(()) }
/// ```
pub fn drive<S, P, L>(session: Session<P>, stream: S, listener: L) -> Driver<Tokio, TokioIo<S>, P, L>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    P: Protocol,
    L: Listener<P::Messages>,
{
    Driver::new(session, TokioIo::new(stream), listener)
}
