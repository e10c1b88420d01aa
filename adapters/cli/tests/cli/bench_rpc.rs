//! `getty bench --rpc`.

use std::fs;

use crate::call::{URLS, serve};
use crate::certificates::Certificates;
use crate::support::{RUNTIMES, Server, load, run};

/// Measures calls to the server at `url`, and returns the results.
#[track_caller]
fn measure(name: &str, url: &str, args: &[&str]) -> serde_json::Value {
    let path = format!("{}/bench-rpc-{name}.json", env!("CARGO_TARGET_TMPDIR"));
    let all = [&["--rpc", "--warmup", "0.1", "--json", &path], args, &[url]].concat();
    load(0.2, &all).succeeded();
    let mut report: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let run = report["runs"][0].take();
    assert_eq!((&run["server"], &run["errors"]), (&url.into(), &0.into()));
    let number = |name: &str| run[name].as_f64().unwrap();
    assert!(number("messages") > 0.0 && number("messages_per_s") > 0.0 && number("p99_us") > 0.0, "{run}");
    run
}

#[test]
fn calls_are_measured_on_every_runtime() {
    for url in URLS {
        let server = serve(url, &[]);
        for runtime in RUNTIMES {
            let args = ["--connections", "3", "--callers", "2", "--runtime", runtime];
            let run = measure(&format!("{runtime}-{}", &url[..2]), &server.url, &args);
            let transport = format!("rpc/{}", url.split(':').next().unwrap());
            assert_eq!(
                (&run["transport"], &run["load_runtime"]),
                (&transport.as_str().into(), &runtime.into())
            );
            assert_eq!((&run["connections"], &run["server_runtime"]), (&3.into(), &().into()));
        }
    }
}

#[test]
fn calls_of_every_size_and_number() {
    let server = serve(URLS[0], &[]);
    for args in [["--size", "1", "--callers", "2000"], ["--size", "100000", "--callers", "4"]] {
        measure("sizes", &server.url, &[&args[..], &["--connections", "1"]].concat());
    }
}

#[test]
fn tls_and_compression() {
    let certificates = Certificates::new("bench-rpc");
    let server = serve("wss://127.0.0.1:0/rpc", &[&certificates.server()[..], &["--deflate"]].concat());
    let args = ["--deflate", "--connections", "2", "--callers", "2"];
    let run = measure("wss", &server.url, &[&args[..], &certificates.trusted()].concat());
    assert_eq!(run["deflate"], true);
    let plain = serve(URLS[1], &[]);
    assert_eq!(measure("plain", &plain.url, &args)["deflate"], false);
}

#[test]
fn servers_that_do_not_serve_calls() {
    let args = ["bench", "--rpc", "--connections", "2", "--callers", "2", "--duration", "1000"];
    let server = Server::start(&[]);
    let done = run(&[&args[..], &[&server.url]].concat(), "");
    done.failed(1, "rpc/tcp, load on tokio: 2 connections ended early (the first: Unavailable: ");
    let server = Server::start_on(URLS[1], &[]);
    let done = run(&[&args[..], &[&server.url]].concat(), "");
    done.failed(1, "rpc/ws, load on tokio: 2 connections ended early (the first: Unavailable: ");
    run(&[&args[..], &["tcp://127.0.0.1:1"]].concat(), "")
        .failed(1, "tcp://127.0.0.1:1: can't connect to 127.0.0.1:1: Connection refused");
}
