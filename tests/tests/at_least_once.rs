//! The example of at-least-once delivery, with a receiver that is killed again and again.
#![cfg(unix)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::LengthDelimited;
use tokio::sync::mpsc;

#[path = "../../adapters/tokio/examples/at_least_once.rs"]
#[allow(dead_code)]
mod example;

use example::{Account, Courier, Desk};

/// With this in the environment, the test `receiver` is one: it has the address, and the file for what came.
const ROLE: &str = "GETTY_TEST_RECEIVER";

#[test]
fn receiver() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (address, file) = role.split_once(' ').unwrap();
    let log = File::options().append(true).create(true).open(file).unwrap();
    let log = Arc::new(Mutex::new(log));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let desk = move || {
            let log = log.clone();
            // One write for each line: what is written is there, whenever this is killed.
            Desk(move |number, repeated, _| {
                let line = format!("{number} {}\n", u8::from(repeated));
                log.lock().unwrap().write_all(line.as_bytes()).unwrap();
            })
        };
        let _server = getty_tokio::Server::builder().tcp(address, LengthDelimited::new, desk).await.unwrap();
        println!("\nready");
        std::future::pending::<()>().await;
    });
}

struct Receiver(Child);

impl Receiver {
    fn start(address: &str, file: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "receiver", "--nocapture"])
            .env(ROLE, format!("{address} {}", file.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let ready = BufReader::new(stdout).lines().any(|line| line.is_ok_and(|line| line == "ready"));
        assert!(ready, "the receiver does not come up");
        Receiver(child)
    }
}

impl Drop for Receiver {
    /// As `kill -9` does.
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn nothing_is_lost_and_what_was_surely_not_sent_is_not_doubled() {
    let kills: u64 = std::env::var("GETTY_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let file = std::env::temp_dir().join(format!("getty-at-least-once-{}", std::process::id()));
    let address = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let account: Account = runtime.block_on(async {
        let (orders, incoming) = mpsc::channel(100);
        let courier = tokio::spawn(Courier::new(address.clone()).run(incoming));
        let mut sent = 0u64;
        for _ in 0..kills {
            let receiver = Receiver::start(&address, &file);
            // It is killed in the middle of this.
            for _ in 0..3000 {
                sent += 1;
                orders.send(Bytes::from(vec![b'x'; (sent % 500) as usize])).await.unwrap();
            }
            drop(receiver);
        }
        let _receiver = Receiver::start(&address, &file);
        drop(orders);
        let account = tokio::time::timeout(Duration::from_secs(60), courier).await;
        let account = account.expect("everything is acknowledged in the end").unwrap();
        assert_eq!(account.accepted, sent);
        account
    });
    println!("{account:?}");
    assert_eq!(account.acknowledged, account.accepted);
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let mut seen: HashMap<u64, u64> = HashMap::new();
    for line in text.lines() {
        let (number, repeated) = line.split_once(' ').unwrap();
        let times = seen.entry(number.parse().unwrap()).or_default();
        assert!(*times == 0 || repeated == "1", "message {number} came again as if it were new");
        *times += 1;
    }
    assert_eq!(seen.len() as u64, account.accepted, "every message came");
    let doubled: u64 = seen.values().map(|times| times - 1).sum();
    assert!(doubled <= account.uncertain, "{doubled} came again, {} were uncertain", account.uncertain);
    assert!(account.uncertain > 0, "no kill fell into the middle of anything");
}
