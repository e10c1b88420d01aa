//! Tests in a network namespace of their own, whose loopback interface is theirs alone.

use std::process::Command;
use std::{env, thread};

/// Set in the process that is in a namespace.
const INSIDE: &str = "GETTY_TEST_NAMESPACE";

/// Whether this process has a network of its own, set up by the shell command `setup`. If not, runs the test that
/// calls it once more in a process that has; where that can't be had, nothing is tested.
pub fn is_inside(setup: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let in_namespace = |command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--net", "sh", "-c"]);
        unshare.args([&format!("{setup} && {command}"), "sh"]);
        unshare
    };
    if !in_namespace("true").output().is_ok_and(|done| done.status.success()) {
        eprintln!("not tested: there is no network to be had by `{setup}`");
        return false;
    }
    let status = in_namespace("exec \"$@\"")
        .arg(env::current_exe().unwrap())
        .args(["--exact", thread::current().name().unwrap()])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "in a network namespace: {status}");
    false
}
