//! Peers that misbehave, over real sockets: each harms its own session and nothing else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::LengthDelimited;
use getty_core::{Config, framed};
use getty_driver::{Handle, Receiver, Runtime, Server};
use socket2::SockRef;
use testkit::Rng;

use crate::driver_common::recorder::{Log, Recorder};
use crate::driver_common::runtimes::{Own, TestRuntime, blocking, connect, serve, server, until};
use crate::driver_common::task::Task;
use crate::driver_common::*;
use crate::on_every_runtime;

on_every_runtime!(
    resets_leave_nothing_behind,
    a_length_bomb_ends_its_session_only,
    who_never_reads_is_cut_off,
    who_stops_in_the_middle_of_a_frame_is_cut_off,
    who_reads_slowly_gets_everything,
);

async fn echo_server<R: TestRuntime>() -> (Server<R>, Log) {
    let log = Log::default();
    let kept = log.clone();
    let server = serve::<R>(move || Recorder::echo().0.log_to(&kept)).await;
    (server, log)
}

/// A plain socket to `address` that ends with a reset.
fn raw(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    stream.set_read_timeout(Some(secs(20))).unwrap();
    stream
}

/// Number of open sockets of this process on `port`, at either end. Other tests in this file use other ports.
#[cfg(target_os = "linux")]
fn sockets_on(port: u16) -> usize {
    let inodes: Vec<String> = std::fs::read_to_string("/proc/self/net/tcp")
        .unwrap()
        .lines()
        .skip(1)
        .filter(|line| {
            line.split_whitespace().skip(1).take(2).any(|address| address.ends_with(&format!(":{port:04X}")))
        })
        .map(|line| format!("socket:[{}]", line.split_whitespace().nth(9).unwrap()))
        .collect();
    let open =
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    open.filter(|target| inodes.iter().any(|inode| target.as_os_str() == inode.as_str())).count()
}

#[cfg(not(target_os = "linux"))]
fn sockets_on(_port: u16) -> usize {
    1
}

fn resets_leave_nothing_behind<R: TestRuntime>() {
    const RESETS: usize = 1000;
    R::block_on(async {
        let (server, log) = echo_server::<R>().await;
        let mut steady = connect::<R>(server.local_addr()).await;
        let address = server.local_addr();
        let mut rng = Rng::new(11);
        let offsets: Vec<usize> = (0..RESETS).map(|_| rng.below(60)).collect();
        let seen = log.clone();
        blocking(move || {
            let input = frame(&[b'x'; 16]).repeat(3);
            for (n, offset) in offsets.into_iter().enumerate() {
                let opened = seen.count("on_open");
                let mut client = raw(address);
                client.write_all(&input[..offset]).unwrap();
                // Half of the clients are reset as soon as they have sent something, perhaps before they are
                // accepted.
                let is_reset_later = n % 2 == 0;
                while is_reset_later && seen.count("on_open") == opened {
                    std::thread::sleep(MS / 10);
                }
            }
        })
        .await;
        // A connection that is reset before it is accepted may never become a session, and some are accepted
        // late.
        let each_ended_once = || log.count("on_close") == log.count("on_open") - 1;
        until::<R>("every session ends, once", || server.sessions() == 1 && each_ended_once()).await;
        steady.send(Bytes::from("still here")).await.unwrap();
        assert_eq!(steady.recv().await.unwrap().unwrap(), "still here");
        let opened = log.count("on_open") - 1;
        assert!(opened >= RESETS / 2, "{opened}");
        let ends = log.take();
        assert!(
            ends.iter().any(|end| end.starts_with("on_close: transport")),
            "some sessions end by a reset"
        );
        drop(steady);
        until::<R>("the last one ends", || server.sessions() == 0).await;
        if cfg!(target_os = "linux") {
            until::<R>("only the listening socket is left", || sockets_on(address.port()) == 1).await;
        }
    });
}

fn a_length_bomb_ends_its_session_only<R: TestRuntime>() {
    R::block_on(async {
        let (server, log) = echo_server::<R>().await;
        let mut steady = connect::<R>(server.local_addr()).await;
        let address = server.local_addr();
        blocking(move || {
            let mut bomb = raw(address);
            bomb.write_all(&frame(b"before")).unwrap();
            bomb.write_all(b"\xff\xff\xff\xff and on").unwrap();
            let mut echoed = Vec::new();
            bomb.read_to_end(&mut echoed).unwrap();
            assert_eq!(echoed, frame(b"before"), "the message before it is echoed, then comes the end");
        })
        .await;
        until::<R>("the session ends", || log.count("on_close") == 1).await;
        let reason = log.take().pop().unwrap();
        assert!(
            reason.contains("a frame of 4294967299 bytes") && reason.contains("Config::max_frame"),
            "{reason}"
        );
        steady.send(Bytes::from("still here")).await.unwrap();
        assert_eq!(steady.recv().await.unwrap().unwrap(), "still here");
    });
}

#[test]
fn a_dropped_runtime_ends_its_sessions() {
    type R = getty_tokio::Tokio;
    let (server, receiver, handle) = R::block_on(async {
        let (server, _) = echo_server::<R>().await;
        let (handle, receiver) = connect::<R>(server.local_addr()).await.spawn(&Own::<R>::new());
        handle.send(Bytes::from("hello")).await.unwrap();
        until::<R>("the session is open", || server.sessions() == 1).await;
        (server, receiver, handle)
    });
    all_is_over(&server, receiver, &handle);
}

#[test]
fn a_dropped_executor_ends_its_sessions() {
    type R = getty_smol::Smol;
    let executor = Arc::new(smol::Executor::new());
    let (server, receiver, handle) = smol::block_on(executor.run(async {
        let spawner = getty_smol::OnExecutor::new(&executor);
        let builder = Server::<R>::builder().spawner(spawner.clone());
        let listeners = || Recorder::echo().0;
        let server = builder.tcp("127.0.0.1:0", framed(LengthDelimited::new), listeners).await.unwrap();
        let (handle, receiver) = connect::<R>(server.local_addr()).await.spawn(&spawner);
        handle.send(Bytes::from("hello")).await.unwrap();
        until::<R>("the session is open", || server.sessions() == 1).await;
        (server, receiver, handle)
    }));
    assert!(!handle.is_closed());
    drop(executor);
    all_is_over(&server, receiver, &handle);
}

/// Checks the state after the runtime is gone, and its tasks with it.
fn all_is_over<R: Runtime>(server: &Server<R>, mut receiver: Receiver<Bytes, Bytes>, handle: &Handle<Bytes>) {
    assert!(handle.is_closed());
    assert!(handle.try_send(Bytes::new()).is_err());
    assert_eq!(server.sessions(), 0);
    let received = Task::new(receiver.recv()).finish();
    assert!(matches!(received, Ok(Some(_)) | Err(_)), "the echo or the end");
}

async fn echo_server_with<R: TestRuntime>(config: Arc<Config>) -> (Server<R>, Log) {
    let log = Log::default();
    let kept = log.clone();
    let builder = server::<R>().config(config);
    let listener = move || Recorder::echo().0.log_to(&kept);
    (builder.tcp("127.0.0.1:0", framed(LengthDelimited::new), listener).await.unwrap(), log)
}

fn who_never_reads_is_cut_off<R: TestRuntime>() {
    R::block_on(async {
        let (server, log) = echo_server_with::<R>(config(|c| c.write_stall_timeout(50 * MS))).await;
        let address = server.local_addr();
        let writing = blocking(move || {
            let mut stream = raw(address);
            let input = frame(&[b'x'; 60_000]);
            // Until the server has closed.
            while stream.write_all(&input).is_ok() {}
        });
        writing.await;
        until::<R>("the end", || log.count("on_close") == 1).await;
        let reason = log.take().pop().unwrap();
        assert!(reason.contains("the peer took no bytes"), "{reason}");
        until::<R>("its session is gone", || server.sessions() == 0).await;
    });
}

fn who_stops_in_the_middle_of_a_frame_is_cut_off<R: TestRuntime>() {
    R::block_on(async {
        let (server, log) = echo_server_with::<R>(config(|c| c.partial_frame_timeout(50 * MS))).await;
        let address = server.local_addr();
        let waiting = blocking(move || {
            let mut stream = raw(address);
            stream.write_all(b"\0\0\0\x05hell").unwrap();
            assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0, "the server ends the stream");
        });
        waiting.await;
        until::<R>("the end", || log.count("on_close") == 1).await;
        let reason = log.take().pop().unwrap();
        assert!(reason.contains("a frame stayed incomplete"), "{reason}");
    });
}

fn who_reads_slowly_gets_everything<R: TestRuntime>() {
    const MESSAGES: usize = 200;
    R::block_on(async {
        let (server, _) = echo_server::<R>().await;
        let address = server.local_addr();
        let message = frame(&vec![7; 100_000]);
        blocking(move || {
            let mut reader = raw(address);
            let mut writer = reader.try_clone().unwrap();
            let sent = message.clone();
            // Far more than the sockets hold, so that writing waits for reading.
            let writing =
                std::thread::spawn(move || (0..MESSAGES).for_each(|_| writer.write_all(&sent).unwrap()));
            let mut echo = vec![0; message.len()];
            for n in 0..MESSAGES {
                if n % 50 == 0 {
                    std::thread::sleep(20 * MS); // to be slow
                }
                reader.read_exact(&mut echo).unwrap();
                assert!(echo == message, "message {n}");
            }
            writing.join().unwrap();
        })
        .await;
    });
}

#[test]
fn who_never_reads_is_cut_off_in_virtual_time() {
    // Virtual time with real sockets: the clock moves only when all tasks wait.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (server, log) = echo_server::<getty_tokio::Tokio>().await;
        let stream = tokio::net::TcpStream::connect(server.local_addr()).await.unwrap();
        let input = frame(&[b'x'; 60_000]);
        // As much as the sockets hold; then neither side can go on.
        let started = tokio::time::Instant::now();
        while log.count("on_close") == 0 {
            match stream.try_write(&input) {
                Ok(_) => tokio::task::yield_now().await,
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
        assert!(started.elapsed() >= secs(30) && started.elapsed() < secs(60), "{:?}", started.elapsed());
        let reason = log.take().pop().unwrap();
        assert!(reason.contains("the peer took no bytes"), "{reason}");
        assert_eq!(server.sessions(), 0);
    });
}
