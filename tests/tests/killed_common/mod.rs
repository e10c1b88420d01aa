//! A server in a process of its own that can be killed: the test binary runs itself again, with only the test
//! that is the receiver.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// Set in the environment of the receiver: its address and the file for its messages.
const ROLE: &str = "GETTY_TEST_RECEIVER";

/// The file for the messages, with one write for each line, so that a kill loses no line that was written.
pub type Written = Arc<Mutex<File>>;

/// Returns the address and the file if this process is the receiver. Called by the test that may be the
/// receiver.
pub fn role() -> Option<(String, Written)> {
    let role = std::env::var(ROLE).ok()?;
    let (address, file) = role.split_once(' ').unwrap();
    let file = File::options().append(true).create(true).open(file).unwrap();
    Some((address.to_owned(), Arc::new(Mutex::new(file))))
}

/// Keeps the receiver serving until it is killed.
pub async fn serve_until_killed() {
    println!("\nready");
    std::future::pending::<()>().await;
}

pub struct Receiver(Child);

impl Receiver {
    /// Starts a receiver. `test` is the name of the test that is the receiver.
    pub fn start(test: &str, address: &str, file: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(ROLE, format!("{address} {}", file.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let ready = BufReader::new(stdout).lines().any(|line| line.is_ok_and(|line| line == "ready"));
        assert!(ready, "the receiver does not start");
        Receiver(child)
    }
}

impl Drop for Receiver {
    /// Kills the receiver, as `kill -9` does.
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// An address that is free at this moment.
pub fn free_address() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}
