//! [`Boxed`]: a future in a box.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

/// A future in a box, which is `Sync` whatever it holds: only its owner reaches it. So the handles of a call
/// are `Sync` too.
pub(super) struct Boxed<T>(Mutex<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T> Boxed<T> {
    pub(super) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Boxed(Mutex::new(Box::pin(future)))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        // This takes no lock.
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(cx)
    }
}
