//! unix URLs.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use rustix::process::Signal;

use crate::support::{DEADLINE, RUNTIMES, Server, comes_back, frame, load, run};

/// A path of one test, short enough for a socket.
fn socket(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("getty-cli-{}-{name}", std::process::id()))
}

fn url(path: &std::path::Path) -> String {
    format!("unix://{}", path.display())
}

#[test]
fn messages_come_back_on_every_runtime() {
    for runtime in RUNTIMES {
        let path = socket(runtime);
        let server = Server::start_on(&url(&path), &["--runtime", runtime]);
        assert_eq!(server.url, url(&path));
        comes_back(&["--runtime", runtime, &server.url], "hello\n", b"hello\n");
        load(0.1, &["--warmup", "0", "--runtime", runtime, &server.url]).succeeded();
        server.running.signal(Signal::TERM);
        server.running.finish().succeeded();
        assert!(!path.exists(), "the file is removed with the server");
    }
}

#[test]
fn codecs_are_those_of_tcp() {
    let path = socket("codecs");
    for (codec, sent) in
        [("length", frame(b"hello")), ("lines", b"hello\n".to_vec()), ("raw", b"hello".to_vec())]
    {
        let server = Server::start_on(&url(&path), &["--codec", codec]);
        let mut client = UnixStream::connect(&path).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.write_all(&sent).unwrap();
        let mut back = vec![0; sent.len()];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, sent);
        server.running.signal(Signal::TERM);
        drop(client);
        server.running.finish().succeeded();
    }
}

#[test]
fn a_killed_server_leaves_its_file_and_the_next_takes_it() {
    let path = socket("killed");
    drop(Server::start_on(&url(&path), &[])); // kills it
    assert!(path.exists());
    let server = Server::start_on(&url(&path), &[]);
    comes_back(&[&server.url], "hello\n", b"hello\n");
    run(&["serve", &server.url], "").failed(1, "can't listen on");
    drop(server);
    fs::remove_file(path).unwrap();
}

#[test]
fn paths_that_can_not_be_connected_to() {
    let path = socket("nothing");
    run(&["connect", &url(&path)], "")
        .failed(1, &format!("can't connect to {}: No such file", path.display()));
    drop(UnixListener::bind(&path).unwrap());
    run(&["connect", &url(&path)], "").failed(1, "Connection refused");
    fs::remove_file(path).unwrap();
}
