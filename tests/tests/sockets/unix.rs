//! Servers and clients over Unix sockets, and the files that belong to them.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::LengthDelimited;
use getty_core::{Close, Framed, framed};
use getty_driver::{PoolOptions, Server, UnixOptions};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::driver_common::recorder::{Log, Recorder};
use crate::driver_common::runtimes::{TestRuntime, blocking, client, server, until};
use crate::driver_common::*;
use crate::on_every_runtime;

on_every_runtime!(
    messages_go_both_ways,
    listeners_are_served_through_handles,
    a_relative_path_is_made_absolute,
    the_file_goes_with_the_server,
    a_file_that_came_in_its_place_stays,
    a_file_that_was_left_behind_is_replaced,
    a_file_that_is_in_use_is_an_error,
    a_link_is_what_it_leads_to,
    a_file_that_is_no_socket_is_named_as_one,
    a_name_after_a_nul_is_abstract_on_linux,
    an_abstract_name_has_no_file_whose_mode_could_be_set,
    any_other_nul_is_an_error_at_both_ends,
    the_mode_is_what_was_asked_for,
    errors_name_the_path,
    a_full_queue_is_waited_for,
    a_full_queue_is_waited_for_in_time_only,
);

/// A directory that is removed when this is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("getty-unix-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn echo_server<R: TestRuntime>(path: &Path) -> (Server<R, PathBuf>, Log) {
    let log = Log::default();
    let kept = log.clone();
    let listener = move || Recorder::echo().0.log_to(&kept);
    (server::<R>().unix(path, framed(LengthDelimited::new), listener).unwrap(), log)
}

/// Whether a message to `path` comes back, with a socket of the standard library.
fn echoes(path: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(path) else { return false };
    stream.set_read_timeout(Some(secs(20))).unwrap();
    stream.write_all(&frame(b"hello")).unwrap();
    let mut echoed = [0; 9];
    stream.read_exact(&mut echoed).is_ok() && echoed == *frame(b"hello")
}

fn messages_go_both_ways<R: TestRuntime>() {
    let directory = Directory::new();
    R::block_on(async {
        let (server, log) = echo_server::<R>(&directory.socket());
        let mut client = client::<R>()
            .unix_connection(directory.socket(), Framed::new(LengthDelimited::new()))
            .await
            .unwrap();
        for size in [0, 1, 1000, 65_536, 1 << 20] {
            client.feed(Bytes::from(vec![7; size])).await.unwrap();
            assert_eq!(client.recv().await.unwrap().unwrap(), vec![7; size]);
        }
        assert!(client.close(Close::graceful()).await.is_clean());
        until::<R>("the end", || log.count("on_close: closed by the peer") == 1).await;
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
    });
}

fn listeners_are_served_through_handles<R: TestRuntime>() {
    let directory = Directory::new();
    R::block_on(async {
        let (server, _) = echo_server::<R>(&directory.socket());
        let (listener, log) = Recorder::quiet();
        let handle =
            client::<R>().unix(server.path(), Framed::new(LengthDelimited::new()), listener).await.unwrap();
        assert_eq!((handle.local_addr(), handle.peer_addr()), (None, None));
        handle.send_flushed(Bytes::from("hello")).await.unwrap();
        until::<R>("the echo", || log.count("on_message: hello") == 1).await;
        assert_eq!(server.sessions(), 1);
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
        until::<R>("its session ends too", || log.count("on_close") == 1).await;
    });
}

fn a_relative_path_is_made_absolute<R: TestRuntime>() {
    let name = format!("getty-unix-{}-{}", std::process::id(), std::any::type_name::<R>().replace("::", "-"));
    R::block_on(async {
        let (server, _) = echo_server::<R>(Path::new(&name));
        assert_eq!(server.path(), std::env::current_dir().unwrap().join(&name));
        let path = name.clone();
        assert!(blocking(move || echoes(Path::new(&path))).await);
        server.shutdown(secs(10)).await;
    });
    assert!(!Path::new(&name).exists());
}

fn the_file_goes_with_the_server<R: TestRuntime>() {
    let directory = Directory::new();
    let path = directory.socket();
    R::block_on(async {
        let (server, _) = echo_server::<R>(&path);
        assert!(fs::metadata(&path).unwrap().file_type().is_socket());
        server.shutdown(secs(10)).await;
        assert!(!path.exists(), "after a shutdown");
        let (server, _) = echo_server::<R>(&path);
        drop(server);
        until::<R>("the file goes when the server is dropped", || !path.exists()).await;
    });
}

fn a_file_that_came_in_its_place_stays<R: TestRuntime>() {
    let directory = Directory::new();
    let path = directory.socket();
    R::block_on(async {
        let (server, _) = echo_server::<R>(&path);
        fs::rename(&path, directory.0.join("moved")).unwrap();
        let (successor, _) = echo_server::<R>(&path);
        server.shutdown(secs(10)).await;
        let asked = path.clone();
        assert!(blocking(move || echoes(&asked)).await);
        successor.shutdown(secs(10)).await;
        assert!(!path.exists());
    });
}

fn a_file_that_was_left_behind_is_replaced<R: TestRuntime>() {
    let directory = Directory::new();
    let path = directory.socket();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a killed process leaves its file");
    R::block_on(async {
        let (_server, _) = echo_server::<R>(&path);
        let asked = path.clone();
        assert!(blocking(move || echoes(&asked)).await);
    });
}

fn a_file_that_is_in_use_is_an_error<R: TestRuntime>() {
    let directory = Directory::new();
    let path = directory.socket();
    R::block_on(async {
        let (_server, _) = echo_server::<R>(&path);
        let second = server::<R>().unix(&path, framed(LengthDelimited::new), || Recorder::echo().0);
        assert_eq!(second.unwrap_err().kind(), ErrorKind::AddrInUse);
        let asked = path.clone();
        assert!(blocking(move || echoes(&asked)).await, "the first server still works");
    });
}

fn a_link_is_what_it_leads_to<R: TestRuntime>() {
    let directory = Directory::new();
    let (path, link) = (directory.socket(), directory.0.join("link"));
    symlink(&path, &link).unwrap();
    R::block_on(async {
        let (_first, _) = echo_server::<R>(&path);
        assert_eq!(server_of::<R>(&link).unwrap_err().kind(), ErrorKind::AddrInUse);
        let asked = link.clone();
        assert!(blocking(move || echoes(&asked)).await, "the first server still works");
        // A file that a killed process left behind is replaced.
        let left = directory.0.join("left");
        drop(UnixListener::bind(&left).unwrap());
        fs::remove_file(&link).unwrap();
        symlink(&left, &link).unwrap();
        let (_second, _) = echo_server::<R>(&link);
        let asked = link.clone();
        assert!(blocking(move || echoes(&asked)).await);
        // For a file that is not a socket, the error says that it exists.
        let (file, link) = (directory.0.join("file"), directory.0.join("other"));
        fs::write(&file, "precious").unwrap();
        symlink(&file, &link).unwrap();
        assert_eq!(server_of::<R>(&link).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    });
}

fn a_file_that_is_no_socket_is_named_as_one<R: TestRuntime>() {
    let directory = Directory::new();
    let path = directory.socket();
    let refused = |path: &Path| {
        let serving = server::<R>().unix(path, framed(LengthDelimited::new), || Recorder::echo().0);
        let error = serving.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        let text = format!(
            "can't listen on {}: the file exists and is not a socket: choose another path",
            path.display()
        );
        assert_eq!(error.to_string(), text);
    };
    R::block_on(async {
        fs::write(&path, "precious").unwrap();
        refused(&path);
        refused(&directory.0);
        let link = directory.0.join("link");
        symlink(directory.0.join("nowhere"), &link).unwrap();
        refused(&link);
        assert!(fs::symlink_metadata(&link).is_ok());
    });
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

/// A path that begins with `start`, and is unique to the process and the runtime.
fn path_of<R>(start: &str) -> PathBuf {
    let runtime = std::any::type_name::<R>().replace("::", "-");
    PathBuf::from(format!("{start}getty-abstract-{}-{runtime}", std::process::id()))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn a_name_after_a_nul_is_abstract_on_linux<R: TestRuntime>() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::{ffi::OsStrExt, net::SocketAddr};
    let path = path_of::<R>("\0");
    let name = path.as_os_str().as_bytes()[1..].to_owned();
    R::block_on(async {
        let (server, _) = echo_server::<R>(&path);
        assert_eq!(server.path(), path);
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let echoed = blocking(move || {
            let mut stream = UnixStream::connect_addr(&address).unwrap();
            stream.set_read_timeout(Some(secs(20))).unwrap();
            stream.write_all(&frame(b"hello")).unwrap();
            let mut echoed = [0; 9];
            stream.read_exact(&mut echoed).map(|()| echoed.to_vec())
        });
        assert_eq!(echoed.await.unwrap(), frame(b"hello"));
        let second = server_of::<R>(&path).unwrap_err();
        assert_eq!(second.kind(), ErrorKind::AddrInUse);
        assert!(second.to_string().starts_with("can't listen on @getty-abstract-"), "{second}");

        let connecting = client::<R>().unix_connection(&path, Framed::new(LengthDelimited::new()));
        let mut connection = connecting.await.unwrap();
        connection.send(Bytes::from("hello")).await.unwrap();
        assert_eq!(connection.recv().await.unwrap().unwrap(), "hello");
        assert!(connection.close(Close::graceful()).await.is_clean());

        let pool = client::<R>().pool(PoolOptions::new());
        let pool = pool.unix([&path], framed(LengthDelimited::new), || Recorder::quiet().0).unwrap();
        pool.wait_ready(secs(20)).await.unwrap();
        assert!(pool.stats().addresses[0].address.starts_with("@getty-abstract-"));
        pool.close(secs(10)).await;

        server.shutdown(secs(10)).await;
        let (again, _) = echo_server::<R>(&path); // the name is free once nothing listens on it
        again.shutdown(secs(10)).await;
    });
    let here = fs::read_dir(".").unwrap().filter_map(|file| file.ok()?.file_name().into_string().ok());
    let files: Vec<String> = here.filter(|name| name.contains("getty-abstract")).collect();
    assert!(files.is_empty(), "{files:?}");
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn a_name_after_a_nul_is_abstract_on_linux<R: TestRuntime>() {
    let error = server_of::<R>(&path_of::<R>("\0")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

fn an_abstract_name_has_no_file_whose_mode_could_be_set<R: TestRuntime>() {
    R::block_on(async {
        let builder = server::<R>().unix_options(UnixOptions::new().mode(0o600));
        let error = builder
            .unix(path_of::<R>("\0"), framed(LengthDelimited::new), || Recorder::echo().0)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

fn any_other_nul_is_an_error_at_both_ends<R: TestRuntime>() {
    let directory = Directory::new();
    R::block_on(async {
        let paths = ["a\0b", "a\0", "/a\0", "\0a\0b", "\0"].map(PathBuf::from);
        for path in paths.into_iter().chain([directory.0.join("a\0b")]) {
            let protocol = || Framed::<_, Bytes>::new(LengthDelimited::new());
            let quiet = || Recorder::quiet().0;
            let errors = [
                server_of::<R>(&path).unwrap_err(),
                client::<R>().unix(&path, protocol(), quiet()).await.map(drop).unwrap_err(),
                client::<R>().unix_connection(&path, protocol()).await.map(drop).unwrap_err(),
                client::<R>().pool(PoolOptions::new()).unix([&path], protocol, quiet).map(drop).unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
                let text = error.to_string();
                assert!(text.contains("NUL") && !text.contains('\0'), "{text:?}");
            }
        }
    });
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0);
    assert!(!Path::new("a").exists());
}

fn server_of<R: TestRuntime>(path: &Path) -> std::io::Result<Server<R, PathBuf>> {
    server::<R>().unix(path, framed(LengthDelimited::new), || Recorder::echo().0)
}

fn the_mode_is_what_was_asked_for<R: TestRuntime>() {
    let directory = Directory::new();
    let path = directory.socket();
    R::block_on(async {
        for mode in [0o600, 0o666] {
            let builder = server::<R>().unix_options(UnixOptions::new().mode(mode));
            let server = builder.unix(&path, framed(LengthDelimited::new), || Recorder::echo().0).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            server.shutdown(secs(10)).await;
        }
    });
}

fn errors_name_the_path<R: TestRuntime>() {
    let directory = Directory::new();
    let nowhere = directory.0.join("no/such/directory/socket");
    let too_long = directory.0.join("x".repeat(200));
    R::block_on(async {
        for path in [&nowhere, &too_long] {
            let error = server::<R>()
                .unix(path, framed(LengthDelimited::new), || Recorder::echo().0)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(&format!("can't listen on {}: ", path.display())), "{error}");
            let connecting =
                client::<R>().unix_connection(path, Framed::<_, Bytes>::new(LengthDelimited::new()));
            let error = connecting.await.unwrap_err().to_string();
            assert!(error.starts_with(&format!("can't connect to {}: ", path.display())), "{error}");
        }
    });
}

/// A listening socket whose queue is full, and the connections that fill it.
fn full_queue(path: &Path) -> (UnixListener, Vec<Socket>) {
    let address = SockAddr::unix(path).unwrap();
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&address).unwrap();
    socket.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let next = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        next.set_nonblocking(true).unwrap();
        match next.connect(&address) {
            Ok(()) => waiting.push(next),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return (socket.into(), waiting);
            }
        }
    }
}

fn a_full_queue_is_waited_for<R: TestRuntime>() {
    let directory = Directory::new();
    let (listener, waiting) = full_queue(&directory.socket());
    R::block_on(async {
        let connecting =
            client::<R>().unix_connection(directory.socket(), Framed::new(LengthDelimited::new()));
        let accepting = blocking(move || {
            for _ in waiting {
                listener.accept().unwrap();
            }
            let (mut stream, _) = listener.accept().unwrap();
            let mut message = [0; 9];
            stream.read_exact(&mut message).unwrap();
            message
        });
        let sending = async { connecting.await.unwrap().send(Bytes::from("hello")).await.unwrap() };
        let (message, ()) = futures::join!(accepting, sending);
        assert_eq!(message.to_vec(), frame(b"hello"));
    });
}

fn a_full_queue_is_waited_for_in_time_only<R: TestRuntime>() {
    let directory = Directory::new();
    let (_listener, _waiting) = full_queue(&directory.socket());
    R::block_on(async {
        let client = client::<R>().connect_timeout(Duration::from_millis(20));
        let connecting =
            client.unix_connection(directory.socket(), Framed::<_, Bytes>::new(LengthDelimited::new()));
        let error = connecting.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().ends_with("no connection within 20ms"), "{error}");
    });
}
