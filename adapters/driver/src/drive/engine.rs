//! [`Engine`]: moves bytes and time between a session and its stream.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut};
use getty_core::{IoFailure, Session, StreamProtocol, Timestamp};

use crate::drive::late::Late;
use crate::runtime::Runtime;
use crate::runtime::alarm::Alarm;
use crate::runtime::io::Io;

/// How many pieces one vectored write takes at the most.
const PIECES: usize = 64;

/// A session, its stream and its timer. Knows nothing of listeners and handles.
pub(crate) struct Engine<R: Runtime, I, P> {
    pub(crate) session: Session<P>,
    pub(crate) io: I,
    alarm: Alarm<R>,
    late: Late,
    /// Bytes were written that the stream may keep back.
    unflushed: bool,
    /// How the stream failed, if that was before it had taken everything.
    unwritten: Option<IoFailure>,
}

/// What one read brought.
pub(crate) enum Read {
    /// So many bytes, and perhaps there are more.
    Full(usize),
    /// So many bytes, fewer than there was room for: there are no more now.
    Short(usize),
    /// The stream ended or failed; the session knows.
    Ended,
}

/// The stream has failed; the session knows.
pub(crate) struct Failed;

impl<R: Runtime, I: Io, P: StreamProtocol> Engine<R, I, P> {
    pub(crate) fn new(session: Session<P>, io: I) -> Self {
        Engine { session, io, alarm: Alarm::new(), late: Late::default(), unflushed: false, unwritten: None }
    }

    /// Whether a deadline of the session has come.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.session.poll_timeout().is_some_and(|at| at <= now)
    }

    /// Lets the session's deadlines expire, if one is due and the task is not [`Late`]. Returns whether it
    /// did.
    pub(crate) fn expire(&mut self, cx: &mut Context<'_>, now: Timestamp) -> bool {
        let acts = self.late.acts::<R>(cx, self.session.poll_timeout(), now);
        if acts {
            self.session.handle_timeout(now);
        }
        acts
    }

    /// Reads once.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<Read> {
        if let Err(error) = ready!(self.io.poll_readable(cx)) {
            return self.failed(cx, now, &error).map(|Failed| Read::Ended);
        }
        let mut room = self.session.recv_buf();
        let size = room.remaining_mut();
        match ready!(self.io.poll_read(cx, &mut room)) {
            Ok(0) => {
                self.session.handle_eof(now);
                Poll::Ready(Read::Ended)
            }
            Ok(n) => {
                self.session.handle_read(now);
                Poll::Ready(if n < size { Read::Short(n) } else { Read::Full(n) })
            }
            Err(error) => self.failed(cx, now, &error).map(|Failed| Read::Ended),
        }
    }

    /// Whether there is something to write, or written bytes to hand on.
    pub(crate) fn wants_write(&self) -> bool {
        self.unflushed || self.session.wants_write()
    }

    /// How the stream failed, if that was before it had taken everything that was accepted.
    pub(crate) fn unwritten(&self) -> Option<IoFailure> {
        self.unwritten
    }

    /// Writes until nothing is left, or the stream is full.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<Result<(), Failed>> {
        loop {
            let mut outbound = self.session.outbound(now);
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
                    self.unflushed = true;
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

    /// Ends our side of the stream. Ready when the session has been told.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<()> {
        match ready!(self.io.poll_shutdown(cx)) {
            Ok(()) => self.session.handle_shutdown(now),
            // The peer has gone altogether: there is nothing left to end.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                self.session.handle_shutdown(now);
                self.session.handle_eof(now);
            }
            Err(error) => return self.failed(cx, now, &error).map(|Failed| ()),
        }
        Poll::Ready(())
    }

    /// The wait is over.
    pub(crate) fn end_wait(&mut self) {
        self.late.reset();
    }

    /// Arranges to be woken at the session's next deadline, or at `other`. Ready if that has come.
    pub(crate) fn poll_timer(&mut self, cx: &mut Context<'_>, other: Option<Timestamp>) -> Poll<()> {
        if self.late.has_yielded() {
            return Poll::Pending; // the deadline has passed: the task would wake itself at once
        }
        let due = self.session.poll_timeout();
        self.alarm.poll(cx, other.filter(|other| due.is_none_or(|due| *other < due)).or(due))
    }

    /// The stream has failed, unless it only wants to be asked again.
    fn failed(&mut self, cx: &mut Context<'_>, now: Timestamp, error: &io::Error) -> Poll<Failed> {
        if error.kind() == io::ErrorKind::Interrupted {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.fail(now, error.into()))
    }

    fn fail(&mut self, now: Timestamp, failure: IoFailure) -> Failed {
        if self.wants_write() {
            self.unwritten = Some(failure);
            self.unflushed = false;
        }
        self.session.handle_io_error(now, failure);
        Failed
    }
}
