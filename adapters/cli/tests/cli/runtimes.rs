//! `--runtime`: servers and clients on every runtime, with each other.

use std::io::Write;

use crate::support::{RUNTIMES, Running, Server, comes_back, frame, load, read_frame, rest, run};

const TEXT: &str = "hello\n\nlast, without an end";

/// Servers of every transport on `runtime`.
fn servers(runtime: &str, threads: &str) -> Vec<Server> {
    let options = ["--runtime", runtime, "--threads", threads];
    vec![Server::start(&options), Server::start_on("ws://127.0.0.1:0/echo", &options)]
}

#[test]
fn every_client_talks_to_every_server() {
    for served in RUNTIMES {
        for threads in ["1", "2"] {
            for server in servers(served, threads) {
                for runtime in RUNTIMES {
                    comes_back(&["--runtime", runtime, &server.url], TEXT, format!("{TEXT}\n").as_bytes());
                }
            }
        }
    }
}

#[test]
fn every_load_runs_against_every_server() {
    for served in RUNTIMES {
        for server in servers(served, "1") {
            for runtime in RUNTIMES {
                let args = ["--warmup", "0", "--connections", "20", "--runtime", runtime, &server.url];
                let done = load(0.1, &args).succeeded();
                let row: Vec<&str> = done.text().lines().last().unwrap().split_whitespace().collect();
                assert_eq!(row[1..3], ["-", runtime], "{row:?}");
            }
        }
    }
}

#[test]
fn the_clock_of_each_runtime_is_used() {
    for runtime in RUNTIMES {
        let mut server = Server::start(&["--runtime", runtime, "--idle", "0.05", "--stats"]);
        let mut client = server.connect();
        assert_eq!(rest(&mut client), b"", "closed when idle");
        server.wait_for_stats("sessions 0, opened 1, messages/s 0, MB/s 0.00, errors 0");
    }
}

#[cfg(unix)]
#[test]
fn signals_end_the_server_on_every_runtime() {
    for runtime in RUNTIMES {
        for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
            let server = Server::start(&["--runtime", runtime]);
            let mut client = server.connect();
            // A connection that is not accepted yet would be reset.
            client.write_all(&frame(b"hello")).unwrap();
            assert_eq!(read_frame(&mut client).unwrap(), b"hello");
            server.running.signal(signal);
            assert_eq!(rest(&mut client), b"");
            drop(client); // the server waits for this end
            server.running.finish().succeeded();
        }
    }
}

#[test]
fn addresses_that_can_not_be_are_told_on_every_runtime() {
    for runtime in RUNTIMES {
        let taken = Server::start(&[]);
        run(&["serve", "--runtime", runtime, &taken.url], "").failed(1, "can't listen on 127.0.0.1:");
        run(&["connect", "--runtime", runtime, "tcp://127.0.0.1:1"], "")
            .failed(1, "can't connect to 127.0.0.1:1");
        run(&["bench", "--runtime", runtime, "tcp://127.0.0.1:1"], "")
            .failed(1, "can't connect to 127.0.0.1:1");
    }
}

#[test]
fn standard_input_may_stay_open_on_every_runtime() {
    for runtime in RUNTIMES {
        let server = Server::start(&["--runtime", runtime]);
        let mut client = Running::start(&["connect", "--runtime", runtime, &server.url]);
        let mut stdin = client.child.stdin.take().unwrap();
        for text in ["first\n", "\n", "third\n"] {
            stdin.write_all(text.as_bytes()).unwrap();
            assert_eq!(client.line(), text);
        }
        drop(stdin);
        client.finish().succeeded();
    }
}
