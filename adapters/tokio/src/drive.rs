//! [`drive`]: a session over a stream that is there already.

use getty_driver::core::{Session, StreamProtocol};
use getty_driver::{Driver, Listener};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Tokio, TokioIo};

/// Drives `session` over a stream of one's own: accepted by other code, of TLS of another library, a
/// [`tokio::io::duplex`]. The future is ready when the session is over; spawn it or await it.
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
/// let session = Session::new(Framed::new(LengthDelimited::new()), Arc::new(Config::default()), now::<Tokio>());
/// let driving = tokio::spawn(drive(session, stream, Echo));
///
/// peer.write_all(b"\0\0\0\x05hello").await?;
/// peer.shutdown().await?;
/// let mut answer = Vec::new();
/// peer.read_to_end(&mut answer).await?;
/// assert_eq!(answer, b"\0\0\0\x05hello");
/// assert!(driving.await?.is_clean()); // why the session is over
/// # Ok(()) }
/// ```
pub fn drive<S, P, L>(session: Session<P>, stream: S, listener: L) -> Driver<Tokio, TokioIo<S>, P, L>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    P: StreamProtocol,
    L: Listener<P::Messages>,
{
    Driver::new(session, TokioIo::new(stream), listener)
}
