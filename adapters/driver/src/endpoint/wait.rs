//! [`Waits`]: waiting by a runtime's timers, for protocols, which know no runtime.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::time::Duration;

use crate::runtime::io::Timer;
use crate::runtime::{Runtime, clock};

/// A wait for a time to pass.
pub type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A runtime on which any task can wait for a time to pass: each [`Runtime`] whose timers are `Send`.
pub trait Waits {
    /// Waits for `time`. As for the runtime's timers, a task of the runtime may have to make it.
    fn wait(time: Duration) -> Wait;
}

impl<R: Runtime<Timer: Send>> Waits for R {
    fn wait(time: Duration) -> Wait {
        let mut timer = R::timer(clock::after::<R>(time));
        Box::pin(poll_fn(move |cx| timer.poll(cx)))
    }
}
