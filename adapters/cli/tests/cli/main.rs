//! Drives the real program, as a user would: loopback only, and a free port each time.

mod bench;
mod bench_rpc;
mod call;
mod call_failures;
mod call_proto;
mod certificates;
#[cfg(unix)]
mod chromium;
mod connect;
#[cfg(target_os = "linux")]
mod crowds;
#[cfg(target_os = "linux")]
mod diagnostics;
mod generate;
#[cfg(target_os = "linux")]
mod renewal;
mod rpc_serve;
mod runtimes;
#[cfg(target_os = "linux")]
#[path = "../../../../tests/tests/driver_common/seccomp.rs"]
mod seccomp;
mod serve;
#[cfg(target_os = "linux")]
mod soak;
mod streams;
mod support;
mod tls;
mod udp;
#[cfg(unix)]
mod unix;
mod usage;
#[cfg(unix)]
mod webdriver;
mod websocket;
#[cfg(unix)]
mod who;
mod ws;
#[cfg(target_os = "linux")]
mod zones;
