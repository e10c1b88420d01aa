//! [`Process`]: a server in a process of its own, and what the system knows about it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::calls::Calls;
use crate::kind::Kind;

/// Unit of the times in `/proc`, on every architecture of Linux that Rust supports.
const TICK: Duration = Duration::from_millis(10);

/// Server in a process, which is killed on drop.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    calls: Option<Calls>,
}

impl Process {
    /// Starts a server on one processor.
    pub fn start(kind: Kind, processor: Option<usize>) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.args(["--serve", &kind.name()]).stdin(Stdio::null()).stdout(Stdio::piped());
        if let Some(processor) = processor {
            command.arg("--processor").arg(processor.to_string());
        }
        let mut child = command.spawn().context("cannot start a server")?;
        let mut line = String::new();
        let output = child.stdout.take().expect("its output is a pipe");
        BufReader::new(output).read_line(&mut line)?;
        // A server that fails has printed why.
        let address = line.trim().parse();
        let mut process = Process { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), calls: None };
        process.address = address.context("a server did not start")?;
        Ok(process)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// CPU time so far, as precise as the scheduler knows it.
    pub fn cpu(&self) -> Result<Duration> {
        Ok(ClockId::pid_cpu_clock_id(self.pid())?.now()?.into())
    }

    /// The part of the CPU time that is spent outside the kernel.
    pub fn user_cpu(&self) -> Result<Duration> {
        let stat = self.proc("stat")?;
        // The name in parentheses may contain spaces. The time is the 12th field after it.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u32 = { fields }.nth(11).context("/proc has no user time")?.parse()?;
        Ok(TICK * ticks)
    }

    /// Resident memory of its own in bytes, without files. Exact, other than the sums in `/proc/PID/status`.
    pub fn memory(&self) -> Result<u64> {
        let maps = self.proc("smaps_rollup")?;
        let size = maps.lines().find_map(|line| line.strip_prefix("Anonymous:"));
        let size = size.and_then(|size| size.trim().strip_suffix(" kB")).context("/proc has no memory")?;
        Ok(size.trim().parse::<u64>()? << 10)
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }

    /// Counts system calls from now on. Fails where the system forbids it.
    pub fn count_calls(&mut self) -> Result<()> {
        self.calls = Some(Calls::of(self.pid())?);
        Ok(())
    }

    /// System calls so far, since they are counted.
    pub fn calls(&self) -> u64 {
        self.calls.as_ref().map_or(0, Calls::count)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        if let Some(calls) = self.calls.take() {
            calls.join();
        }
        let _ = self.child.wait(); // fails where `calls` has seen the end
    }
}
