//! [`StreamEngine`]: moves bytes between a session and its stream.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::Buf;
use getty_core::{Event, In, IoFailure, Protocol, Seq, Session, Timestamp, Work};

use crate::drive::engine::Engine;
use crate::runtime::io::Io;
use crate::runtime::thread_memory;

/// Maximum number of pieces in one vectored write.
const PIECES: usize = 64;

/// Queued bytes that justify a write before the input is exhausted.
pub(crate) const WRITE_AT: usize = 64 * 1024;

/// A session and its stream.
pub(crate) struct StreamEngine<I, P> {
    pub(crate) session: Session<P>,
    pub(crate) io: I,
    /// The stream may hold back written bytes.
    unflushed: bool,
    /// The failure of the stream, if it failed before taking everything.
    unwritten: Option<IoFailure>,
}

/// The stream has failed, and the session knows.
pub(crate) struct Failed;

impl<I: Io, P: Protocol> StreamEngine<I, P> {
    pub(crate) fn new(session: Session<P>, io: I) -> Self {
        StreamEngine { session, io, unflushed: false, unwritten: None }
    }

    /// Whether a deadline of the session has passed.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.session.poll_timeout().is_some_and(|at| at <= now)
    }

    /// Reads once; returns the number of bytes. 0 means that the stream ended or failed, and that the
    /// session knows.
    #[inline(always)]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<usize> {
        if let Err(error) = ready!(self.io.poll_readable(cx)) {
            return self.failed(cx, now, &error).map(|Failed| 0);
        }
        match ready!(self.io.poll_read(cx, &mut self.session.recv_buf())) {
            Ok(0) => self.session.handle_eof(now),
            Ok(n) => {
                self.session.handle_read(now);
                return Poll::Ready(n);
            }
            Err(error) => return self.failed(cx, now, &error).map(|Failed| 0),
        }
        Poll::Ready(0)
    }

    /// Whether there is something to write, or written bytes to flush.
    pub(crate) fn has_bytes_to_write(&self) -> bool {
        self.unflushed || self.session.wants_write()
    }

    /// The failure of the stream, if it failed before taking everything accepted.
    pub(crate) fn unwritten(&self) -> Option<IoFailure> {
        self.unwritten
    }

    /// Writes until the queue is empty or the stream is full. Leaves a message that is being encoded to
    /// `poll_event`, which has a limit.
    #[inline(always)]
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<Result<(), Failed>> {
        loop {
            let mut outbound = self.session.outbound_within(now, 0);
            if !outbound.has_remaining() {
                break;
            }
            let written = {
                let first = outbound.chunk();
                if first.len() == outbound.remaining() {
                    self.io.poll_write(cx, &[IoSlice::new(first)])
                } else {
                    let mut pieces = [IoSlice::new(&[]); PIECES];
                    let filled = outbound.chunks_vectored(&mut pieces);
                    self.io.poll_write(cx, &pieces[..filled])
                }
            };
            match ready!(written) {
                Ok(0) => {
                    drop(outbound);
                    return Poll::Ready(Err(self.fail(now, io::ErrorKind::WriteZero.into())));
                }
                Ok(n) => {
                    outbound.advance(n);
                    drop(outbound);
                    self.unflushed = true;
                    // What is due, such as a pong, is not queued before the next look.
                    if !self.session.wants_write() && !self.session.wants_poll() {
                        break;
                    }
                }
                Err(error) => {
                    drop(outbound);
                    return self.failed(cx, now, &error).map(Err);
                }
            }
        }
        if self.unflushed {
            match ready!(self.io.poll_flush(cx)) {
                Ok(()) => self.unflushed = false,
                Err(error) => return self.failed(cx, now, &error).map(Err),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends our side of the stream. Ready when the session knows.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<()> {
        match ready!(self.io.poll_shutdown(cx)) {
            Ok(()) => self.session.handle_shutdown(now),
            // The peer is gone altogether: there is nothing left to end.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                let closing = self.session.close_reason().is_some();
                self.session.handle_shutdown(now);
                // After a half-close, bytes may still wait to be read.
                if closing {
                    self.session.handle_eof(now);
                }
            }
            Err(error) => return self.failed(cx, now, &error).map(|Failed| ()),
        }
        Poll::Ready(())
    }

    /// Reports the failure of the stream, unless the error only asks for a retry.
    fn failed(&mut self, cx: &mut Context<'_>, now: Timestamp, error: &io::Error) -> Poll<Failed> {
        if error.kind() == io::ErrorKind::Interrupted {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.fail(now, error.into()))
    }

    fn fail(&mut self, now: Timestamp, failure: IoFailure) -> Failed {
        if self.has_bytes_to_write() {
            self.unwritten = Some(failure);
            self.unflushed = false;
        }
        self.session.handle_io_error(now, failure);
        Failed
    }
}

impl<I: Io, P: Protocol> Engine for StreamEngine<I, P> {
    type Messages = <P as Protocol>::Messages;
    type Session = Session<P>;

    const TURN_READS: u32 = 128;

    fn begin_turn(&mut self) {
        self.io.begin_turn();
        self.session.lend(thread_memory::take());
    }

    fn end_turn(&mut self) {
        thread_memory::give_back(self.session.take_back());
    }

    #[inline]
    fn session(&mut self) -> &mut Session<P> {
        &mut self.session
    }

    #[inline]
    fn wants_poll(&self) -> bool {
        self.session.wants_poll()
    }

    #[inline]
    fn poll_message(&mut self, limit: u64) -> Option<In<P>> {
        self.session.poll_message_within(limit)
    }

    #[inline]
    fn poll_event(&mut self, limit: u64) -> Option<Event<In<P>>> {
        self.session.poll_event_within(limit)
    }

    #[inline]
    fn work(&self) -> Work {
        self.session.work()
    }

    #[inline]
    fn wants_read(&self) -> bool {
        self.session.wants_read()
    }

    #[inline(always)]
    fn poll_read(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<usize> {
        StreamEngine::poll_read(self, cx, now)
    }

    fn wants_write(&self) -> bool {
        self.has_bytes_to_write() || self.session.wants_shutdown()
    }

    fn has_much_to_write(&self) -> bool {
        self.session.queued() >= WRITE_AT
    }

    fn is_writable(&self) -> bool {
        self.session.is_writable()
    }

    /// Also ends our side of the stream when that is due. A stream never refuses a message.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        now: Timestamp,
        _unsent: impl FnMut(Seq, IoFailure),
    ) -> Option<usize> {
        let before = self.session.queued();
        let result = self.poll_write(cx, now);
        let queued = self.session.queued();
        let has_changed = match result {
            Poll::Ready(Ok(())) if self.session.wants_shutdown() => self.poll_shutdown(cx, now).is_ready(),
            result => queued != before || matches!(result, Poll::Ready(Err(_))),
        };
        has_changed.then(|| before.saturating_sub(queued))
    }

    fn is_closing(&self) -> bool {
        self.session.close_reason().is_some() && !self.session.is_over()
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.session.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        self.session.handle_timeout(now);
    }
}
