//! What belongs to the machine: its processors, its limits, its description.

use std::fs;
use std::process::Command;

use anyhow::Result;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Descriptors that a process needs beside those of its sessions.
const OTHER_FILES: u64 = 64;

/// Processors of the server and of the load.
#[derive(Clone, Copy)]
pub struct Processors {
    pub server: usize,
    pub load: usize,
}

impl Processors {
    /// The first and the last one that this process may use. `None` if there is only one.
    pub fn find() -> Result<Option<Self>> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let mut allowed = (0..CpuSet::count()).filter(|&processor| allowed.is_set(processor) == Ok(true));
        let server = allowed.next();
        let load = allowed.next_back();
        Ok(server.zip(load).map(|(server, load)| Processors { server, load }))
    }
}

/// Keeps this thread, and those it starts, on one processor.
pub fn pin(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Lets the system kill this process when its parent ends.
pub fn end_with_parent() -> Result<()> {
    Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// Lets this process and its children open as many files as the system allows. Returns how many sessions
/// that leaves room for.
pub fn raise_file_limit() -> Result<u32> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(u32::try_from(hard.saturating_sub(OTHER_FILES)).unwrap_or(u32::MAX))
}

/// Whether the system measures user CPU time on this processor at every system call, instead of sampling it
/// at the ticks of its clock.
pub fn measures_user_cpu(processor: usize) -> bool {
    let list = fs::read_to_string("/sys/devices/system/cpu/nohz_full").unwrap_or_default();
    list.trim().split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let range = first.parse().ok().zip(last.parse().ok());
        range.is_some_and(|(first, last): (usize, usize)| (first..=last).contains(&processor))
    })
}

/// The machine and the compiler in a few words. The processors are those that this process may use.
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = { cpuinfo.lines() }
        .find_map(|line| line.strip_prefix("model name")?.trim_start().strip_prefix(": "))
        .unwrap_or(std::env::consts::ARCH);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let compiler = output("rustc", &["--version"]).unwrap_or_default();
    let compiler = compiler.split(' ').nth(1).unwrap_or("of unknown version");
    format!("{model}, processors: {processors}, Linux {kernel}, Rust {compiler}")
}

/// The date, such as 2026-11-30.
pub fn date() -> String {
    output("date", &["+%F"]).unwrap_or_default()
}

fn output(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// The versions of the compared libraries.
pub fn versions() -> Vec<(&'static str, &'static str)> {
    let names = ["tokio", "tokio-util", "tungstenite", "fastwebsockets", "sockudo-ws"];
    let lock = include_str!("../Cargo.lock");
    { names.into_iter() }
        .filter_map(|name| {
            let (_, package) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
            Some((name, package.split_once('"')?.0))
        })
        .collect()
}
