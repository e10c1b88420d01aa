//! [`FuturesIo`]: any stream of the `futures-io` traits.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};
use futures_io::{AsyncRead, AsyncWrite};

use crate::runtime::io::Io;
use crate::runtime::thread_memory::lend_scratch;

/// Adapts any stream of the `futures-io` traits to [`Io`]: a TLS stream of another library, a pipe in
/// memory.
///
/// Closing the stream must end its sending side; otherwise a graceful close waits until its deadline. The
/// sockets of async-io and async-std do not do that: pass those to the `drive` of their adapter.
#[derive(Debug)]
pub struct FuturesIo<S>(S);

impl<S> FuturesIo<S> {
    /// Wraps `stream`.
    pub fn new(stream: S) -> Self {
        FuturesIo(stream)
    }

    /// The wrapped stream.
    pub fn get_ref(&self) -> &S {
        &self.0
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Io for FuturesIo<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut Limit<&mut BytesMut>) -> Poll<io::Result<usize>> {
        lend_scratch(|scratch| {
            let room = buf.remaining_mut().min(scratch.len());
            Pin::new(&mut self.0).poll_read(cx, &mut scratch[..room]).map_ok(|n| {
                let n = n.min(room);
                buf.put_slice(&scratch[..n]);
                n
            })
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match pieces {
            [one] => Pin::new(&mut self.0).poll_write(cx, one),
            many => Pin::new(&mut self.0).poll_write_vectored(cx, many),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
