//! [`joined`]: two sessions of one process, without a socket.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use getty_core::{Config, Protocol, Session};

use crate::drive::driver::Driver;
use crate::runtime::pipe::pipe;
use crate::runtime::{Runtime, clock};
use crate::session::listener::Listener;

/// Bytes that the pipe holds in each direction: about as many as a socket holds at first.
const CAPACITY: usize = 64 * 1024;

/// Drives two sessions over a pipe in memory until both are over. They begin with the first poll.
pub(crate) async fn joined<R, P, A, B>(protocol: fn() -> P, near: A, far: B)
where
    R: Runtime,
    P: Protocol,
    A: Listener<P::Messages>,
    B: Listener<P::Messages>,
{
    let session = || Session::new(protocol(), Arc::new(Config::default()), clock::now::<R>());
    let (near_io, far_io) = pipe(CAPACITY);
    let mut near = Some(Driver::<R, _, _, _>::new(session(), near_io, near));
    let mut far = Some(Driver::<R, _, _, _>::new(session(), far_io, far));
    poll_fn(|cx| {
        let is_over = poll_session(&mut near, cx) & poll_session(&mut far, cx);
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Has a turn of a session. One that is over is dropped, so that the other sees the end of its stream.
/// Returns whether it is.
fn poll_session<D: Future + Unpin>(session: &mut Option<D>, cx: &mut Context<'_>) -> bool {
    if session.as_mut().is_some_and(|driver| Pin::new(driver).poll(cx).is_ready()) {
        *session = None;
    }
    session.is_none()
}
