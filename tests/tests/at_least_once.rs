//! The example of at-least-once delivery, with a receiver that is killed again and again.
#![cfg(unix)]

mod killed_common;

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::LengthDelimited;
use getty_core::framed;
use killed_common::{Receiver, free_address, serve_until_killed};
use tokio::sync::mpsc;

#[path = "../../adapters/tokio/examples/at_least_once.rs"]
#[allow(dead_code)]
mod example;

use example::{Account, Courier, Desk};

#[test]
fn receiver() {
    let Some((address, written)) = killed_common::role() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let desk = move || {
            let written = written.clone();
            Desk(move |number, repeated, _| {
                let line = format!("{number} {}\n", u8::from(repeated));
                written.lock().unwrap().write_all(line.as_bytes()).unwrap();
            })
        };
        let _server =
            getty_tokio::Server::builder().tcp(&address, framed(LengthDelimited::new), desk).await.unwrap();
        serve_until_killed().await;
    });
}

#[test]
fn nothing_is_lost_and_what_was_surely_not_sent_is_not_doubled() {
    let kills: u64 = std::env::var("GETTY_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let file = std::env::temp_dir().join(format!("getty-at-least-once-{}", std::process::id()));
    let address = free_address();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let account: Account = runtime.block_on(async {
        let (orders, incoming) = mpsc::channel(100);
        let courier = tokio::spawn(Courier::new(address.clone()).run(incoming));
        let mut sent = 0u64;
        for _ in 0..kills {
            let receiver = Receiver::start("receiver", &address, &file);
            // The receiver is killed while these are being sent.
            for _ in 0..3000 {
                sent += 1;
                orders.send(Bytes::from(vec![b'x'; (sent % 500) as usize])).await.unwrap();
            }
            drop(receiver);
        }
        let _receiver = Receiver::start("receiver", &address, &file);
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
    assert!(account.uncertain > 0, "no kill interrupted anything");
}
