//! [`pipe`]: a stream in memory between two sessions of one process.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};

use crate::runtime::io::Io;

/// Makes the two ends of a stream that holds at most `capacity` bytes in each direction. A writer waits for
/// room, as over a socket.
pub(crate) fn pipe(capacity: usize) -> (Pipe, Pipe) {
    let [there, back] = [0; 2].map(|_| Arc::new(Lane { capacity, state: Mutex::default() }));
    (Pipe { input: back.clone(), output: there.clone() }, Pipe { input: there, output: back })
}

/// One end of a [`pipe`]. Dropping it ends the stream for the other end.
pub(crate) struct Pipe {
    input: Arc<Lane>,
    output: Arc<Lane>,
}

/// One direction.
struct Lane {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    /// The writer has ended the stream.
    has_ended: bool,
    /// The reader is gone.
    is_abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        wake(state, |state| &mut state.reader);
    }

    fn abandon(&self) {
        let mut state = self.lock();
        state.is_abandoned = true;
        state.bytes = VecDeque::new();
        wake(state, |state| &mut state.writer);
    }
}

/// Wakes one side of a lane once its lock is released: a waker may own a task that owns the other end.
fn wake(mut state: MutexGuard<'_, State>, side: impl FnOnce(&mut State) -> &mut Option<Waker>) {
    let waker = side(&mut state).take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Leaves a waker for one side of a lane.
fn wait(
    mut state: MutexGuard<'_, State>,
    side: impl FnOnce(&mut State) -> &mut Option<Waker>,
    cx: &Context<'_>,
) {
    let before = side(&mut state).replace(cx.waker().clone());
    drop(state);
    drop(before);
}

impl Io for Pipe {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut Limit<&mut BytesMut>) -> Poll<io::Result<usize>> {
        let mut state = self.input.lock();
        if state.bytes.is_empty() {
            if state.has_ended {
                return Poll::Ready(Ok(0));
            }
            wait(state, |state| &mut state.reader, cx);
            return Poll::Pending;
        }
        let mut read = 0;
        while !state.bytes.is_empty() && buf.has_remaining_mut() {
            let (first, _) = state.bytes.as_slices();
            let n = first.len().min(buf.remaining_mut());
            buf.put_slice(&first[..n]);
            state.bytes.drain(..n);
            read += n;
        }
        wake(state, |state| &mut state.writer);
        Poll::Ready(Ok(read))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut state = self.output.lock();
        if state.is_abandoned || state.has_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = self.output.capacity - state.bytes.len();
        if room == 0 {
            wait(state, |state| &mut state.writer, cx);
            return Poll::Pending;
        }
        let mut left = room;
        for piece in pieces {
            let n = piece.len().min(left);
            state.bytes.extend(&piece[..n]);
            left -= n;
        }
        wake(state, |state| &mut state.reader);
        Poll::Ready(Ok(room - left))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.output.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.output.end();
        self.input.abandon();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One end, with a waker that counts.
    struct End {
        pipe: Pipe,
        wakes: Arc<Count>,
    }

    impl End {
        fn wakes(&self) -> usize {
            self.wakes.0.load(Ordering::Relaxed)
        }

        fn write(&mut self, pieces: &[&[u8]]) -> Poll<Result<usize, io::ErrorKind>> {
            let waker = self.wakes.clone().into();
            let pieces: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let written = self.pipe.poll_write(&mut Context::from_waker(&waker), &pieces);
            written.map_err(|error| error.kind())
        }

        fn read(&mut self, room: usize) -> Poll<Vec<u8>> {
            let waker = self.wakes.clone().into();
            let mut bytes = BytesMut::new();
            let mut buf = (&mut bytes).limit(room);
            let read = self.pipe.poll_read(&mut Context::from_waker(&waker), &mut buf);
            read.map(|read| {
                assert_eq!(read.unwrap(), bytes.len());
                bytes.to_vec()
            })
        }
    }

    fn ends() -> [End; 2] {
        let (a, b) = pipe(4);
        [a, b].map(|pipe| End { pipe, wakes: Arc::default() })
    }

    #[test]
    fn a_writer_waits_for_room_and_a_reader_for_bytes() {
        let [mut a, mut b] = ends();
        assert_eq!(b.read(9), Poll::Pending);
        assert_eq!(a.write(&[b"ab", b"cdef"]), Poll::Ready(Ok(4)));
        assert_eq!((a.wakes(), b.wakes()), (0, 1));
        assert_eq!(a.write(&[b"ef"]), Poll::Pending);
        assert_eq!(b.read(3), Poll::Ready(b"abc".to_vec()));
        assert_eq!((a.wakes(), b.wakes()), (1, 1));
        // The bytes lie around the end of the ring now.
        assert_eq!(a.write(&[b"ef"]), Poll::Ready(Ok(2)));
        assert_eq!(b.read(9), Poll::Ready(b"def".to_vec()));
        // The other direction is another lane.
        assert_eq!(b.write(&[b"back"]), Poll::Ready(Ok(4)));
        assert_eq!(a.read(9), Poll::Ready(b"back".to_vec()));
    }

    #[test]
    fn the_end_comes_after_what_was_written() {
        let [mut a, mut b] = ends();
        assert_eq!(a.write(&[b"abc"]), Poll::Ready(Ok(3)));
        let waker = Waker::noop();
        assert!(a.pipe.poll_shutdown(&mut Context::from_waker(waker)).is_ready());
        assert_eq!(a.write(&[b"d"]), Poll::Ready(Err(io::ErrorKind::BrokenPipe)));
        assert_eq!(b.read(9), Poll::Ready(b"abc".to_vec()));
        assert_eq!(b.read(9), Poll::Ready(Vec::new()));
        assert_eq!(b.write(&[b"x"]), Poll::Ready(Ok(1)), "the other direction goes on");
        assert_eq!(a.read(9), Poll::Ready(b"x".to_vec()));
    }

    #[test]
    fn an_end_that_is_dropped_wakes_the_other() {
        let [a, mut b] = ends();
        assert_eq!(b.read(9), Poll::Pending);
        assert_eq!(b.write(&[b"full"]), Poll::Ready(Ok(4)));
        assert_eq!(b.write(&[b"more"]), Poll::Pending);
        drop(a);
        assert_eq!(b.wakes(), 2);
        assert_eq!(b.read(9), Poll::Ready(Vec::new()));
        assert_eq!(b.write(&[b"more"]), Poll::Ready(Err(io::ErrorKind::BrokenPipe)));
    }
}
