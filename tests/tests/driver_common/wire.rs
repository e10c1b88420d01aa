//! [`MemIo`]: a stream in memory that is controlled by its [`Wire`].

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};
use getty_driver::Io;

use super::fake;

/// A method of [`Io`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Readable,
    Read,
    Write,
    Flush,
    Shutdown,
}

/// The result of one call, instead of the usual one.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// Not ready: the caller is woken by [`Wire::wake`], or by the next thing that happens.
    Pending,
    /// `Ok(0)`, for a write.
    Zero,
    Fails(io::ErrorKind),
}

#[derive(Default)]
struct State {
    input: VecDeque<Result<Vec<u8>, io::ErrorKind>>,
    /// Bytes to read again and again once the input is used up.
    endless: Option<Vec<u8>>,
    eof: bool,
    written: Vec<u8>,
    /// Number of bytes that it still takes. `None` means any number.
    room: Option<usize>,
    /// Number of bytes that it takes in one write.
    at_once: Option<usize>,
    answers: [VecDeque<Answer>; 5],
    /// Reads find nothing, whatever is there, until the runtime has looked more often than this.
    blind: Option<usize>,
    calls: [usize; 5],
    /// Only one: a driver promises to call from one task, so the last waker must serve for everything.
    waker: Option<Waker>,
    on_write: Option<Box<dyn FnMut() + Send>>,
    shut_down: bool,
    dropped: bool,
    addresses: Option<[SocketAddr; 2]>,
}

/// The driver's end of a [`wire()`].
pub struct MemIo(Arc<Mutex<State>>);

/// The test's end of a [`wire()`].
#[derive(Clone)]
pub struct Wire(Arc<Mutex<State>>);

pub fn wire() -> (MemIo, Wire) {
    let state = Arc::<Mutex<State>>::default();
    (MemIo(state.clone()), Wire(state))
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        result
    }

    /// Wakes the waiting task without a reason.
    pub fn wake(&self) {
        self.change(|_| ());
    }

    /// Sends these bytes to the driver, in one read if there is room.
    pub fn send(&self, bytes: &[u8]) {
        self.change(|state| state.input.push_back(Ok(bytes.to_vec())));
    }

    /// Sends `payload` as a frame.
    pub fn send_frame(&self, payload: impl AsRef<[u8]>) {
        self.send(&super::frame(payload.as_ref()));
    }

    /// Sends `bytes` forever, or stops that with `None`.
    pub fn endless(&self, bytes: Option<Vec<u8>>) {
        self.change(|state| state.endless = bytes);
    }

    /// Lets a read fail once the earlier input is read.
    pub fn fail(&self, kind: io::ErrorKind) {
        self.change(|state| state.input.push_back(Err(kind)));
    }

    /// Ends the peer's side once the earlier input is read.
    pub fn eof(&self) {
        self.change(|state| state.eof = true);
    }

    /// Lets the peer take `bytes` more; `None` means any number.
    pub fn room(&self, bytes: impl Into<Option<usize>>) {
        self.change(|state| state.room = bytes.into());
    }

    /// Limits each write to `bytes`.
    pub fn at_once(&self, bytes: usize) {
        self.change(|state| state.at_once = Some(bytes));
    }

    /// Sets the result of the next call of `op`; several are used in order. Wakes no task.
    pub fn answer(&self, op: Op, answer: Answer) {
        self.lock().answers[op as usize].push_back(answer);
    }

    /// Reads find nothing, whatever is there, until the runtime looks: it does not know of it yet.
    pub fn read_is_blind(&self) {
        self.lock().blind = Some(fake::looks());
    }

    /// Runs `hook` whenever bytes are written.
    pub fn on_write(&self, hook: impl FnMut() + Send + 'static) {
        self.lock().on_write = Some(Box::new(hook));
    }

    /// Returns the bytes written since the last call.
    pub fn take_written(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().written)
    }

    /// The same as text, frame by frame.
    pub fn take_frames(&self) -> Vec<String> {
        let written = self.take_written();
        let (frames, rest) = super::frames(&written);
        assert!(rest.is_empty(), "part of a frame was written: {rest:?}");
        frames.into_iter().map(|payload| String::from_utf8(payload).unwrap()).collect()
    }

    /// Number of calls of `op`.
    pub fn calls(&self, op: Op) -> usize {
        self.lock().calls[op as usize]
    }

    pub fn is_shut_down(&self) -> bool {
        self.lock().shut_down
    }

    pub fn is_dropped(&self) -> bool {
        self.lock().dropped
    }
}

impl MemIo {
    /// Lets it report these addresses.
    pub fn with_addresses(self, local: &str, peer: &str) -> Self {
        self.0.lock().unwrap().addresses = Some([local, peer].map(|address| address.parse().unwrap()));
        self
    }

    /// Counts the call. Returns the result that is set for it, if any.
    fn call(&mut self, op: Op, cx: &Context<'_>) -> Option<Poll<io::Result<usize>>> {
        let mut state = self.0.lock().unwrap();
        state.calls[op as usize] += 1;
        let answer = state.answers[op as usize].pop_front()?;
        Some(match answer {
            Answer::Pending => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Answer::Zero => Poll::Ready(Ok(0)),
            Answer::Fails(kind) => Poll::Ready(Err(kind.into())),
        })
    }
}

impl Io for MemIo {
    fn local_addr(&self) -> Option<SocketAddr> {
        self.0.lock().unwrap().addresses.map(|[local, _]| local)
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.0.lock().unwrap().addresses.map(|[_, peer]| peer)
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.call(Op::Readable, cx).map_or(Poll::Ready(Ok(())), |answer| answer.map_ok(drop))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut Limit<&mut BytesMut>) -> Poll<io::Result<usize>> {
        if let Some(answer) = self.call(Op::Read, cx) {
            return answer;
        }
        let state = &mut *self.0.lock().unwrap();
        assert!(buf.has_remaining_mut(), "a read without room would look like the end of the stream");
        if state.blind == Some(fake::looks()) {
            fake::wake_at_look(cx);
            return Poll::Pending;
        }
        let bytes = match state.input.pop_front() {
            Some(Ok(bytes)) => bytes,
            Some(Err(kind)) => return Poll::Ready(Err(kind.into())),
            None if state.eof => return Poll::Ready(Ok(0)),
            None => match &state.endless {
                Some(bytes) => bytes.clone(),
                None => {
                    state.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            },
        };
        let n = bytes.len().min(buf.remaining_mut());
        buf.put_slice(&bytes[..n]);
        if n < bytes.len() {
            state.input.push_front(Ok(bytes[n..].to_vec()));
        }
        Poll::Ready(Ok(n))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(answer) = self.call(Op::Write, cx) {
            return answer;
        }
        let mut state = self.0.lock().unwrap();
        let offered: usize = pieces.iter().map(|piece| piece.len()).sum();
        assert!(offered > 0, "nothing to write");
        let n = offered.min(state.room.unwrap_or(usize::MAX)).min(state.at_once.unwrap_or(usize::MAX));
        if n == 0 {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(room) = &mut state.room {
            *room -= n;
        }
        let mut left = n;
        for piece in pieces {
            let part = left.min(piece.len());
            state.written.extend_from_slice(&piece[..part]);
            left -= part;
        }
        let mut hook = state.on_write.take();
        drop(state);
        if let Some(hook) = &mut hook {
            hook();
        }
        self.0.lock().unwrap().on_write = hook;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.call(Op::Flush, cx).map_or(Poll::Ready(Ok(())), |answer| answer.map_ok(drop))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(answer) = self.call(Op::Shutdown, cx) {
            return answer.map_ok(drop);
        }
        self.0.lock().unwrap().shut_down = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for MemIo {
    fn drop(&mut self) {
        self.0.lock().unwrap().dropped = true;
    }
}
