//! Measures echo servers over getty and over other libraries on this machine, side by side, and prints the
//! table in getty's README.
//!
//! ```sh
//! cargo run --release --manifest-path tests/compare/Cargo.toml -- --write README.md
//! ```
//!
//! Each server is a process of its own, this program with a hidden option: one thread, one processor. The
//! load comes from this process, on another processor. Everything else is in the help (`-- --help`).

#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod kind;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod measure;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod page;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod results;
#[cfg(target_os = "linux")]
mod serve;
#[cfg(target_os = "linux")]
mod system;

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    options::run()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("error: the comparison runs only on Linux, where it reads CPU time and memory from /proc");
    std::process::ExitCode::FAILURE
}
