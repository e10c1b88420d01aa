//! Messages about wrong command lines, and failures before any session.

use std::net::TcpListener;

use crate::support::run;

#[test]
fn wrong_command_lines() {
    for (args, problem) in [
        ("foo", "unrecognized subcommand 'foo'"),
        ("serve", "required arguments were not provided: <URL>..."),
        ("connect", "required arguments were not provided: <URL>"),
        ("connect tcp://h:1 tcp://h:2", "unexpected argument 'tcp://h:2'"),
        ("bench --foo", "unexpected argument '--foo'"),
        (
            "serve --runtime std tcp://h:1",
            "invalid value 'std' for '--runtime <RUNTIME>' [possible values: tokio, smol, async-std]",
        ),
        ("serve --threads 0 tcp://h:1", "'--threads <N>': 0 is not in 1..=65535"),
        ("serve --threads", "a value is required for '--threads <N>'"),
        (
            "serve --codec line tcp://h:1",
            "'line' for '--codec <CODEC>' [possible values: length, lines, raw]",
        ),
        ("connect --codec x tcp://h:1", "'x' for '--codec <CODEC>' [possible values: length, lines, raw]"),
        ("serve --max-message 0 tcp://h:1", "'--max-message <BYTES>': 0 is not in 1..=4294967291"),
        ("serve --cron 0 tcp://h:1", "'--cron <SECS>': expected seconds from 0.001 to 31536000 (365 days)"),
        ("serve --idle x tcp://h:1", "'--idle <SECS>': expected seconds from 0.001"),
        ("serve --grace -1 tcp://h:1", "'--grace <SECS>': expected seconds from 0 to 31536000"),
        ("serve --idle -1 tcp://h:1", "'--idle <SECS>': expected seconds from 0.001"),
        ("serve --cron -0.5 tcp://h:1", "'--cron <SECS>': expected seconds from 0.001"),
        ("serve --threads -1 tcp://h:1", "'--threads <N>': -1 is not in 1..=65535"),
        ("connect --wait -1 tcp://h:1", "'--wait <SECS>': expected seconds from 0"),
        ("connect --max-message -1 tcp://h:1", "'--max-message <BYTES>': -1 is not in 1..=4294967291"),
        ("bench --duration -1", "'--duration <SECS>': expected seconds from 0.001"),
        ("bench --connections -1", "'--connections <N>': -1 is not in 1..="),
        ("serve --max-sessions 0 tcp://h:1", "'--max-sessions <N>': 0 is not in 1..="),
        ("serve --max-sessions -1 tcp://h:1", "'--max-sessions <N>': "),
        ("serve --max-per-address 0 tcp://h:1", "'--max-per-address <N>': 0 is not in 1..="),
        ("serve --accept-rate 0 tcp://h:1", "'--accept-rate <N>': 0 is not in 1..="),
        ("serve --max-sessions 5 udp://h:1", "--max-sessions needs a URL other than udp"),
        ("serve --accept-rate 5 --peers udp://h:1", "--accept-rate needs a URL other than udp"),
        ("serve --max-per-address 5 udp://h:1", "--max-per-address needs a tcp, tls, ws or wss URL"),
        ("serve --max-per-address 5 unix:///s", "--max-per-address needs a tcp, tls, ws or wss URL"),
        ("serve --idle 5 udp://h:1", "--idle needs a session for each udp peer: add --peers"),
        ("connect udp://h:0", "udp://h:0 has port 0: give the server's port"),
        ("connect tcp://h:0", "tcp://h:0 has port 0: give the server's port"),
        ("connect ws://h:00/x", "ws://h:00/x has port 0: give the server's port"),
        ("bench tls://[::1]:0", "tls://[::1]:0 has port 0: give the server's port"),
        ("serve --subprotocol a --subprotocol a ws://h:1", "--subprotocol a is given twice"),
        ("connect --subprotocol a --subprotocol a ws://h:1", "--subprotocol a is given twice"),
        ("bench --subprotocol a --subprotocol b --subprotocol a", "--subprotocol a is given twice"),
        ("serve --grace=-1 tcp://h:1", "'--grace <SECS>': expected seconds from 0 to 31536000"),
        ("connect --wait 1e99 tcp://h:1", "'--wait <SECS>': expected seconds from 0 to 31536000"),
        ("connect --echo --wait 1 tcp://h:1", "'--echo' cannot be used with '--wait <SECS>'"),
        ("bench --connections 0", "'--connections <N>': 0 is not in 1..=4294967295"),
        ("bench --size 0", "'--size <BYTES>': 0 is not in 1..=1073741824"),
        ("bench --depth 0", "'--depth <N>': 0 is not in 1..=1048576"),
        ("bench --duration 0", "'--duration <SECS>': expected seconds from 0.001"),
        ("bench --warmup x", "'--warmup <SECS>': expected seconds from 0"),
        (
            "bench --size 100 --max-message 99",
            "messages of 100 bytes are over the limit of 99: raise --max-message",
        ),
        ("serve --deflate tcp://h:1", "--deflate needs a ws or wss URL"),
        ("connect --ping 1 tcp://h:1", "--ping needs a ws or wss URL"),
        ("bench --subprotocol a tcp://h:1", "--subprotocol needs a ws or wss URL"),
        ("serve --origin any tcp://h:1", "--origin needs a ws or wss URL"),
        ("serve --ping 0 ws://h:1", "'--ping <SECS>': expected seconds from 0.001"),
        ("connect --subprotocol a,b ws://h:1", "\"a,b\" is not a sub-protocol's name"),
        (
            "serve --origin example.com ws://h:1",
            "'--origin <same|any|URL>': expected same, any, or an origin such as",
        ),
        ("serve --origin any --origin https://a.b ws://h:1", "can't be combined"),
        ("connect --origin any ws://h:1", "unexpected argument '--origin'"),
        ("serve unix://socket", "\"socket\" is not an absolute path: expected unix:///PATH"),
        ("connect --deflate unix:///socket", "--deflate needs a ws or wss URL"),
        ("serve tls://h:1", "tls://h:1 needs a certificate: give --cert FILE and --key FILE"),
        ("serve tcp://h:1 wss://h:1", "wss://h:1/ needs a certificate: give --cert FILE and --key FILE"),
        ("serve --client-ca c tls://h:1", "tls://h:1 needs a certificate: give --cert FILE and --key FILE"),
        ("serve --cert c tls://h:1", "required arguments were not provided: --key <FILE>"),
        ("connect --key k tls://h:1", "required arguments were not provided: --cert <FILE>"),
        ("serve --cert c --key k tcp://h:1", "--cert needs a tls or wss URL"),
        ("serve --client-ca c ws://h:1", "--client-ca needs a tls or wss URL"),
        ("serve --ca c tls://h:1", "unexpected argument '--ca'"),
        ("connect --ca c tcp://h:1", "--ca needs a tls or wss URL"),
        ("connect --insecure ws://h:1", "--insecure needs a tls or wss URL"),
        ("connect --server-name n udp://h:1", "--server-name needs a tls or wss URL"),
        ("connect --cert c --key k tcp://h:1", "--cert needs a tls or wss URL"),
        ("connect --ca c --insecure tls://h:1", "'--ca <FILE>' cannot be used with '--insecure'"),
        ("bench --insecure tcp://h:1", "--insecure needs a tls or wss URL"),
        ("bench --insecure", "--insecure needs the URL of a server"),
        ("connect --deflate tls://h:1", "--deflate needs a ws or wss URL"),
        ("serve --rpc udp://h:1", "RPC needs a tcp, tls, unix, ws or wss URL: remove udp://h:1"),
        ("serve --rpc --codec lines tcp://h:1", "'--rpc' cannot be used with '--codec <CODEC>'"),
        (
            "serve --rpc --max-message 65535 tcp://h:1",
            "RPC needs a --max-message of 65536 to 2147483635 bytes",
        ),
        ("bench --rpc udp://h:1", "RPC needs a tcp, tls, unix, ws or wss URL: remove udp://h:1"),
        ("bench --callers 5 tcp://h:1", "required arguments were not provided: --rpc"),
        ("bench --rpc --callers 5 --depth 5", "'--callers <N>' cannot be used with '--depth <N>'"),
        ("bench --rpc --callers 30001", "'--callers <N>': 30001 is not in 1..=30000"),
        ("bench --rpc --size 2000000", "calls of 2000000 bytes do not fit: a server holds 16777216 bytes"),
        ("call tcp://h:1", "required arguments were not provided: <PACKAGE.SERVICE/METHOD>"),
        ("call tcp://h:1 Echo", "expected PACKAGE.SERVICE/METHOD, such as getty.echo.v1.Echo/Unary"),
        ("call tcp://h:1 a/b/c", "expected PACKAGE.SERVICE/METHOD"),
        ("call --list tcp://h:1 a/b", "'--list' cannot be used with '[PACKAGE.SERVICE/METHOD]'"),
        ("call --codec proto tcp://h:1 a/b", "--codec proto needs the messages: give --proto FILE"),
        ("call --codec x tcp://h:1 a/b", "'x' for '--codec <CODEC>' [possible values: json, proto, raw]"),
        ("call --metadata x tcp://h:1 a/b", "'--metadata <KEY=VALUE>': expected KEY=VALUE"),
        ("call --metadata X=y tcp://h:1 a/b", "a key has 1 to 64 of the characters a-z"),
        ("call --timeout 0 tcp://h:1 a/b", "'--timeout <SECS>': expected seconds from 0.001"),
        ("call tcp://h:0 a/b", "tcp://h:0 has port 0: give the server's port"),
        ("call udp://h:1 a/b", "RPC needs a tcp, tls, unix, ws or wss URL: remove udp://h:1"),
        ("call --ca c tcp://h:1 a/b", "--ca needs a tls or wss URL"),
        ("call --deflate tcp://h:1 a/b", "--deflate needs a ws or wss URL"),
        ("serve ws://h:1/path?query", "remove \"?query\" from the URL to serve"),
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        let done = run(&args, "").failed(2, problem);
        assert_eq!(done.text(), "");
    }
}

#[test]
fn wrong_urls() {
    for (url, problem) in [
        (
            "127.0.0.1:1",
            "a URL begins with its transport: expected tcp://HOST:PORT, unix:///PATH, udp://HOST:PORT, ws://HOST:PORT/PATH, \
             tls://HOST:PORT or wss://HOST:PORT/PATH",
        ),
        ("tls://h", "the port is missing: expected tls://HOST:PORT"),
        ("tls://h:1/path", "unexpected \"/path\" in a tls URL: expected tls://HOST:PORT"),
        ("udp://h", "the port is missing: expected udp://HOST:PORT"),
        ("udp://h:1/path", "unexpected \"/path\" in a udp URL: expected udp://HOST:PORT"),
        ("udp://::1:1", "an IPv6 address must be in brackets: expected udp://[::1]:PORT"),
        ("wss:///path", "the host is missing: expected wss://HOST:PORT"),
        ("wss://h:1/#part", "a WebSocket URL can't have a fragment"),
        ("http://h:1", "unknown transport http: expected tcp://HOST:PORT"),
        ("tcp://:1", "the host is missing: expected tcp://HOST:PORT"),
        ("tcp://h", "the port is missing: expected tcp://HOST:PORT"),
        ("tcp://h:99999", "\"99999\" is not a port: expected a number from 0 to 65535"),
        ("tcp://::1:1", "an IPv6 address must be in brackets: expected tcp://[::1]:PORT"),
        ("tcp://[::1:1", "the bracket around the IPv6 address is not closed: expected tcp://[::1]:PORT"),
        ("tcp://[h]:1", "\"h\" in brackets is not an IPv6 address: expected tcp://[::1]:PORT"),
        ("tcp://h:1/path", "unexpected \"/path\" in a tcp URL: expected tcp://HOST:PORT"),
        ("ws://:1/", "the host is missing: expected ws://HOST:PORT"),
        ("ws://h:1/#part", "a WebSocket URL can't have a fragment"),
        ("ws://me@h:1/", "unexpected \"@h:1\" in a ws URL"),
        ("ws://h:1/ü", "'ü' at byte 9 is not allowed in a URL: percent-encode it"),
    ] {
        for command in ["serve", "connect", "bench"] {
            run(&[command, url], "").failed(2, problem);
        }
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["connect", "-h"],
        &["call", "--help"],
        &["bench", "--help"],
        &["--version"],
    ] {
        let done = run(args, "").succeeded();
        assert!(!done.out.is_empty());
        assert!(done.text().lines().all(|line| line.chars().count() <= 100), "{}", done.text());
    }
    let bare = run(&[], "");
    assert_eq!((bare.code, bare.err.contains("Usage: getty")), (Some(2), true));
}

#[test]
fn an_address_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let url = format!("tcp://{address}");
    let done = run(&["serve", "tcp://127.0.0.1:0", &url], "");
    let done = done.failed(1, &format!("can't listen on {address}: Address already in use"));
    assert_eq!(done.text(), "", "nothing is announced unless every URL is served");
    assert_eq!(done.err.matches("already in use").count(), 1, "{}", done.err);
}

#[test]
fn nobody_listens() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let problem = format!("can't connect to {free}: Connection refused");
    for url in [format!("tcp://{free}"), format!("ws://{free}/")] {
        run(&["connect", &url], "").failed(1, &problem);
        run(&["bench", &url], "").failed(1, &problem);
    }
}

#[test]
fn files_that_can_not_be_written() {
    let file = "/nonexistent/file";
    for option in ["--json", "--plot"] {
        run(&["bench", option, file], "").failed(1, "can't write /nonexistent/file: No such file");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_can_not_be_written() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let problem = "can't write to standard output: No space left on device";
    for args in [&["serve", "tcp://127.0.0.1:0"][..], &["bench", "--duration", "0.01", "--warmup", "0"]] {
        let output = crate::support::getty(args).stdout(full()).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), err.contains(problem)), (Some(1), true), "{err}");
    }
}
