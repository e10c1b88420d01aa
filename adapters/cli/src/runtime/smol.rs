//! Tasks on smol.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::thread;

use getty_smol::Smol;
use smol::{Executor as Tasks, LocalExecutor};

use super::Executor;

/// Tasks of this process, for any of its executor threads.
static TASKS: Tasks<'static> = Tasks::new();

thread_local! {
    /// The tasks of this thread, within `block_on_local`.
    static LOCAL_TASKS: RefCell<Option<Rc<LocalExecutor<'static>>>> = const { RefCell::new(None) };
}

impl Executor for Smol {
    /// With one thread, tasks run in the caller's thread, inside the reactor's loop: no other thread is woken
    /// for them.
    fn block_on<F: Future>(threads: usize, future: F) -> anyhow::Result<F::Output> {
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        thread::scope(|scope| {
            for _ in 1..threads {
                let stopped = stopped.clone();
                scope.spawn(move || smol::block_on(TASKS.run(stopped.recv())));
            }
            let output = smol::block_on(TASKS.run(future));
            drop(stop);
            Ok(output)
        })
    }

    fn spawn<F>(future: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        LOCAL_TASKS.with_borrow(|tasks| match tasks {
            Some(tasks) => tasks.spawn(future).detach(),
            None => TASKS.spawn(future).detach(),
        });
    }

    fn block_on_local<F: Future>(future: F) -> anyhow::Result<F::Output> {
        let tasks = Rc::new(LocalExecutor::new());
        LOCAL_TASKS.replace(Some(tasks.clone()));
        let output = smol::block_on(tasks.run(future));
        LOCAL_TASKS.take();
        Ok(output)
    }

    fn spawn_local<F: Future + 'static>(future: F)
    where
        F::Output: 'static,
    {
        LOCAL_TASKS.with_borrow(|tasks| {
            let tasks = tasks.as_ref().expect("called within block_on_local");
            tasks.spawn(future).detach();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spawned_within_block_on_local_stays_in_the_thread() {
        thread::scope(|scope| {
            let (_stop, stopped) = smol::channel::bounded::<()>(1);
            scope.spawn(move || smol::block_on(TASKS.run(stopped.recv())));
            let (tell, told) = smol::channel::bounded(1);
            let task = async move { tell.send(thread::current().id()).await };
            let here = Smol::block_on_local(async {
                Smol::spawn(task);
                told.recv().await
            });
            assert_eq!(here.unwrap(), Ok(thread::current().id()));
        });
    }
}
