//! Tasks on async-std, which has one executor for the whole process.

use std::future::Future;

use async_global_executor::GlobalExecutorConfig;
use getty_async_std::AsyncStd;

use super::Executor;

impl Executor for AsyncStd {
    /// The first call in the process sets the number of threads.
    fn block_on<F: Future>(threads: usize, future: F) -> anyhow::Result<F::Output> {
        let config = GlobalExecutorConfig::default().with_min_threads(threads);
        async_global_executor::init_with_config(config);
        Ok(async_std::task::block_on(future))
    }

    fn spawn<F>(future: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        async_std::task::spawn(future);
    }

    fn block_on_local<F: Future>(future: F) -> anyhow::Result<F::Output> {
        Self::block_on(1, future)
    }

    /// Does the same as async-std's own `spawn_local`, which is marked unstable.
    fn spawn_local<F: Future + 'static>(future: F)
    where
        F::Output: 'static,
    {
        async_global_executor::spawn_local(future).detach();
    }
}
