//! Tasks on tokio.

use std::future::Future;

use anyhow::Context as _;
use getty_tokio::Tokio;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{self, LocalSet};

use super::Executor;

impl Executor for Tokio {
    fn block_on<F: Future>(threads: usize, future: F) -> anyhow::Result<F::Output> {
        Ok(runtime(threads)?.block_on(future))
    }

    fn spawn<F>(future: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(future);
    }

    fn block_on_local<F: Future>(future: F) -> anyhow::Result<F::Output> {
        Ok(LocalSet::new().block_on(&runtime(1)?, future))
    }

    fn spawn_local<F: Future + 'static>(future: F)
    where
        F::Output: 'static,
    {
        task::spawn_local(future);
    }
}

/// Makes a runtime with `threads` threads. One thread means the caller's.
pub fn runtime(threads: usize) -> anyhow::Result<Runtime> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.worker_threads(threads).enable_all().build().context("can't start the runtime")
}
