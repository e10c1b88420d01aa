//! [`Calls`]: counts the system calls of a child process, as a debugger does. Needs no rights and no tools.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Counter of the system calls of a process, until its end.
///
/// The process is slower meanwhile, so that more connections share a wait.
pub struct Calls {
    /// Stops at the begin and at the end of calls.
    stops: Arc<AtomicU64>,
    /// The thread that traces: the system allows no other one.
    thread: JoinHandle<()>,
}

impl Calls {
    /// Counts the calls of the only thread of a process.
    pub fn of(pid: Pid) -> Result<Self> {
        let stops = Arc::new(AtomicU64::new(0));
        let (attached, result) = mpsc::channel();
        let thread = thread::spawn({
            let stops = stops.clone();
            move || {
                let attaching =
                    ptrace::seize(pid, Options::PTRACE_O_TRACESYSGOOD).and_then(|()| ptrace::interrupt(pid));
                let is_attached = attaching.is_ok();
                let _ = attached.send(attaching);
                if is_attached {
                    let _ = trace(pid, &stops); // fails when the process has ended
                }
            }
        });
        result.recv().context("the tracing thread has ended")?.context("the system allows no ptrace")?;
        Ok(Calls { stops, thread })
    }

    pub fn count(&self) -> u64 {
        self.stops.load(Ordering::Relaxed) / 2
    }

    /// Waits for the end of the process, which must have been killed.
    pub fn join(self) {
        let _ = self.thread.join();
    }
}

fn trace(pid: Pid, stops: &AtomicU64) -> Result<(), Errno> {
    loop {
        let signal = match waitpid(pid, Some(WaitPidFlag::__WALL))? {
            WaitStatus::PtraceSyscall(_) => {
                stops.fetch_add(1, Ordering::Relaxed);
                None
            }
            WaitStatus::Stopped(_, signal) => Some(signal),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Ok(()),
            _ => None,
        };
        match ptrace::syscall(pid, signal) {
            Err(Errno::ESRCH) => {} // killed: its end is the next status
            result => result?,
        }
    }
}
