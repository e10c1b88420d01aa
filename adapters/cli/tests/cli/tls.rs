//! tls and wss URLs.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

#[cfg(unix)]
use rustix::process::Signal;

use crate::certificates::{Certificates, write};
use crate::support::{Done, RUNTIMES, Running, Server, frame, getty, line, load, run};

const URLS: [&str; 2] = ["tls://127.0.0.1:0", "wss://127.0.0.1:0/echo"];

/// `getty serve` with a certificate.
fn serve(url: &str, certificates: &Certificates, options: &[&str]) -> Server {
    Server::start_on(url, &[&certificates.server()[..], options].concat())
}

/// Sends one line with `getty connect`.
fn connect(url: &str, options: &[&str]) -> Done {
    run(&[&["connect", "--wait", "0.2", url][..], options].concat(), "hello\n")
}

#[track_caller]
fn comes_back(url: &str, options: &[&str]) {
    crate::support::comes_back(&[&[url], options].concat(), "hello\n", b"hello\n");
}

#[test]
fn messages_come_back_on_every_runtime() {
    let certificates = Certificates::new("round-trip");
    for runtime in RUNTIMES {
        for url in URLS {
            for threads in ["1", "2"] {
                let server = serve(url, &certificates, &["--runtime", runtime, "--threads", threads]);
                assert!(server.url.starts_with(&url[..12]), "{}", server.url);
                comes_back(&server.url, &[&certificates.trusted()[..], &["--runtime", runtime]].concat());
            }
        }
    }
}

#[test]
fn every_codec_makes_the_round_trip() {
    let certificates = Certificates::new("codecs");
    for url in URLS {
        for codec in ["length", "lines", "raw"] {
            let server = serve(url, &certificates, &["--codec", codec]);
            comes_back(&server.url, &[&certificates.trusted()[..], &["--codec", codec]].concat());
        }
    }
}

#[test]
fn much_goes_through_in_order() {
    let certificates = Certificates::new("much");
    for (url, options) in [(URLS[0], &[][..]), (URLS[1], &[]), (URLS[1], &["--deflate"])] {
        let server = serve(url, &certificates, options);
        let text: Vec<u8> = (0..100_000).flat_map(|n| format!("{n:80}\n").into_bytes()).collect();
        let args = [&["connect", &server.url], options, &certificates.trusted()].concat();
        let mut client = Running::start(&args);
        assert!(client.exchange(text.clone()) == text);
        assert_eq!(client.finish().succeeded().out, b"");
    }
}

#[test]
fn plain_and_secure_urls_are_served_together() {
    let certificates = Certificates::new("together");
    let urls = ["tcp://127.0.0.1:0", "tls://localhost:0", "ws://127.0.0.1:0", "wss://localhost:0"];
    let mut running = Running::start(&[&["serve"], &urls[..], &certificates.server()].concat());
    for url in urls {
        let line = running.line();
        let served = line.trim_end().strip_prefix("listening ").unwrap();
        assert_eq!(served.split_once(':').unwrap().0, url.split_once(':').unwrap().0);
        let secure = url.contains("localhost");
        comes_back(served, &if secure { certificates.trusted().to_vec() } else { Vec::new() });
    }
}

#[test]
fn a_server_that_nobody_trusted_has_signed() {
    let (certificates, others) = (Certificates::new("wrong"), Certificates::new("wrong-others"));
    for url in URLS {
        let mut server = serve(url, &certificates, &["--stats"]);
        let problem =
            "TLS: the peer's certificate is not accepted: it is not signed by a trusted authority (see --ca)";
        let done = connect(&server.url, &others.trusted()).failed(1, problem);
        assert_eq!(done.err, format!("getty: {}: {problem}\n", server.url));
        server.wait_for_stats(
            "errors 1 (last: TLS: the peer refused: it does not trust the issuer of this end's certificate)",
        );
        // Fails at once, before anything is measured.
        let args = [&["bench", "--duration", "1000", &server.url][..], &others.trusted()].concat();
        run(&args, "").failed(1, problem);
        // Without --ca, the system's authorities are trusted.
        connect(&server.url, &[]).failed(1, "(see --ca)");
        comes_back(&server.url, &["--insecure"]);
        comes_back(&server.url, &certificates.trusted());
    }
}

#[test]
fn a_server_of_another_name() {
    let certificates = Certificates::new("name");
    for url in URLS {
        let server = serve(url, &certificates, &[]);
        let named = |name| [&certificates.trusted()[..], &["--server-name", name]].concat();
        comes_back(&server.url, &named("localhost"));
        connect(&server.url, &named("example.com"))
            .failed(1, "TLS: the peer's certificate is not accepted: it is not for example.com but for");
        connect(&server.url, &named("example.com")).failed(1, "(see --server-name)");
    }
}

#[test]
fn certificates_of_clients() {
    let (certificates, others) = (Certificates::new("clients"), Certificates::new("clients-others"));
    for url in URLS {
        let mut server = serve(url, &certificates, &["--client-ca", &certificates.ca, "--stats"]);
        comes_back(&server.url, &certificates.client());
        connect(&server.url, &certificates.trusted())
            .failed(1, "TLS: the peer refused: it requires a certificate from this end (see --cert)");
        server.wait_for_stats("errors 1 (last: TLS: peer sent no certificates)");
        let mut stranger = others.client();
        stranger[1] = &certificates.ca;
        connect(&server.url, &stranger).failed(
            1,
            "TLS: the peer refused: it does not trust the issuer of this end's certificate (see --cert)",
        );
        server.wait_for_stats(
            "(last: TLS: the peer's certificate is not accepted: it is not signed by a trusted authority)",
        );
    }
}

#[cfg(unix)]
#[test]
fn a_signal_renews_the_certificate() {
    for runtime in RUNTIMES {
        let certificates = Certificates::new(&format!("renewed-{runtime}"));
        let mut server = serve(URLS[0], &certificates, &["--runtime", runtime]);
        let mut renewed = || {
            server.running.signal(Signal::HUP);
            line(server.running.err.as_mut().unwrap())
        };
        let mut before = Running::start(&[&["connect", &server.url], &certificates.trusted()[..]].concat());
        let mut stdin = before.child.stdin.take().unwrap();
        let mut goes_on = |text: &str| {
            stdin.write_all(text.as_bytes()).unwrap();
            assert_eq!(before.line(), text);
        };
        goes_on("with the old one\n");
        certificates.make();
        connect(&server.url, &certificates.trusted()).failed(1, "it is not signed by a trusted authority");
        assert_eq!(renewed(), "getty: the certificate was reloaded\n");
        comes_back(&server.url, &certificates.trusted());
        goes_on("still\n");
        // Unusable files change nothing.
        let key = std::fs::read_to_string(&certificates.key).unwrap();
        write(&certificates.key, "nothing");
        let told = renewed();
        assert!(
            told.contains("expected a private key in PEM") && told.ends_with(": the old certificate stays\n"),
            "{told}"
        );
        write(&certificates.key, &std::fs::read_to_string(&certificates.client_key).unwrap());
        assert!(
            renewed()
                .contains("the private key does not belong to the certificate: the old certificate stays")
        );
        comes_back(&server.url, &certificates.trusted());
        write(&certificates.key, &key);
        assert_eq!(renewed(), "getty: the certificate was reloaded\n");
        drop(stdin);
        before.finish().succeeded();
        server.running.signal(Signal::TERM);
        server.running.finish().succeeded();
    }
}

#[test]
fn openssl_talks_to_the_server() {
    if !has_openssl() {
        return;
    }
    let certificates = Certificates::new("openssl");
    for version in ["-tls1_2", "-tls1_3"] {
        let mut server = serve(URLS[0], &certificates, &["--stats"]);
        let mut client = Command::new("openssl")
            .args(["s_client", "-quiet", "-verify_return_error", "-verify_hostname", "localhost", version])
            .args(["-CAfile", &certificates.ca, "-connect", server.authority()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let sent = frame(&[b'x'; 40_000]);
        let mut stdin = client.stdin.take().unwrap();
        stdin.write_all(&sent).unwrap();
        let mut back = vec![0; sent.len()];
        client.stdout.as_mut().unwrap().read_exact(&mut back).unwrap();
        assert!(back == sent);
        client.kill().unwrap();
        client.wait().unwrap();
        server.wait_for_stats("errors 1 (last: TLS: the stream was cut off: it ended without close_notify)");
    }
}

#[test]
fn a_peer_that_speaks_no_tls() {
    let certificates = Certificates::new("plain");
    for url in URLS {
        let mut server = serve(url, &certificates, &["--stats"]);
        let plain = server.url.replace("tls://", "tcp://").replace("wss://", "ws://");
        assert_eq!(connect(&plain, &[]).code, Some(1));
        server.wait_for_stats("errors 1 (last: TLS: the peer speaks another protocol)");
    }
    let (url, peer) = crate::support::peer(|mut stream| {
        stream.write_all(b"220 mail.example ESMTP\r\n").unwrap();
        crate::support::rest(&mut stream);
    });
    let url = url.replace("tcp://", "tls://");
    connect(&url, &["--insecure"]).failed(1, &format!("getty: {url}: TLS: the peer speaks another protocol"));
    peer.join().unwrap();
}

/// A server without TLS may read in the hope of words that it knows, or not read at all.
#[test]
fn a_peer_that_ends_in_the_handshake() {
    for reads in [true, false] {
        for scheme in ["tls", "wss"] {
            let (url, peer) = crate::support::peer(move |mut stream| {
                let mut hello = [0; 16 * 1024];
                // Unread bytes at the close make the system reset the connection.
                let read = if reads { hello.len() } else { 1 };
                assert!(stream.read(&mut hello[..read]).unwrap() > 0);
            });
            let url = url.replace("tcp", scheme) + if scheme == "wss" { "/" } else { "" };
            let problem = match reads {
                true => "TLS: the peer ended the stream during the handshake: does it speak TLS?",
                false => {
                    "Connection reset by peer (os error 104) during the handshake: does the peer speak TLS?"
                }
            };
            let done = connect(&url, &["--insecure"]).failed(1, problem);
            assert_eq!(done.err, format!("getty: {url}: {problem}\n"));
            peer.join().unwrap();
        }
    }
}

/// One end of each pair has the URL of the protocol without TLS.
#[test]
fn a_peer_that_speaks_tls_where_none_is_expected() {
    const HINT: &str = "the peer seems to speak TLS: use a tls:// URL";
    let certificates = Certificates::new("unexpected");
    let server = serve(URLS[0], &certificates, &[]);
    connect(&server.url.replace("tls://", "tcp://"), &[]).failed(1, HINT);
    let mut server = Server::start(&["--stats"]);
    connect(&server.url.replace("tcp://", "tls://"), &["--insecure"]).failed(1, "getty: tls://");
    server.wait_for_stats(&format!("errors 1 (last: {HINT})"));

    let server = serve(URLS[1], &certificates, &[]);
    connect(&server.url.replace("wss://", "ws://"), &[]).failed(1, "is it TLS, or another protocol?");
    let server = Server::start_on("ws://127.0.0.1:0", &[]);
    connect(&server.url.replace("ws://", "wss://"), &["--insecure"])
        .failed(1, "TLS: the peer speaks another protocol");
}

#[test]
fn a_server_that_is_killed_has_cut_the_stream_off() {
    let certificates = Certificates::new("killed");
    let server = serve(URLS[0], &certificates, &[]);
    let mut client = Running::start(&[&["connect", &server.url], &certificates.trusted()[..]].concat());
    let mut stdin = client.child.stdin.take().unwrap();
    stdin.write_all(b"hello\n").unwrap();
    assert_eq!(client.line(), "hello\n");
    drop(server); // kills it
    client.finish().failed(1, "TLS: the stream was cut off: it ended without close_notify");
}

#[test]
fn files_that_are_none() {
    let certificates = Certificates::new("files");
    let Certificates { cert, key, client_key, ca, .. } = &certificates;
    let empty = &certificates.client;
    write(empty, "");
    for (args, problem) in [
        (["serve", "--cert", "/nowhere.pem", "--key", key], "can't read /nowhere.pem: "),
        (["serve", "--cert", empty, "--key", key], "expected a certificate in PEM"),
        (["serve", "--cert", cert, "--key", empty], "expected a private key in PEM"),
        (
            ["serve", "--cert", cert, "--key", client_key],
            "the private key does not belong to the certificate",
        ),
        (
            ["connect", "--cert", cert, "--key", client_key],
            "the private key does not belong to the certificate",
        ),
    ] {
        let files = format!("getty: {} {} {} {}: ", args[1], args[2], args[3], args[4]);
        run(&[&args[..], &["tls://127.0.0.1:1"]].concat(), "").failed(1, &format!("{files}{problem}"));
    }
    let damaged = certificates.key.clone() + ".damaged";
    write(&damaged, "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n");
    for (command, trust) in [("serve", &[][..]), ("connect", &["--ca", ca]), ("connect", &["--insecure"])] {
        let args = [&[command, "--cert", cert, "--key", &damaged, "tls://127.0.0.1:1"], trust].concat();
        let problem = format!(
            "getty: --cert {cert} --key {damaged}: the private key can't be used: it is of an unknown form"
        );
        run(&args, "").failed(1, &problem);
    }
    let strict = ["serve", "--cert", cert, "--key", key, "--client-ca", empty, "tls://127.0.0.1:0"];
    run(&strict, "").failed(1, &format!("getty: --client-ca {empty}: expected a certificate in PEM"));
    for command in ["connect", "bench"] {
        run(&[command, "--ca", empty, "tls://127.0.0.1:1"], "")
            .failed(1, &format!("getty: --ca {empty}: expected a certificate in PEM"));
        run(&[command, "--ca", "/nowhere.pem", "tls://127.0.0.1:1"], "")
            .failed(1, "getty: --ca: can't read /nowhere.pem: ");
        run(&[command, "--ca", ca, "--server-name", "a b", "tls://127.0.0.1:1"], "").failed(
            1,
            "getty: no certificate can be valid for \"a b\": expected a name or an address \
             (see --server-name)",
        );
        run(&[command, "--ca", ca, "tls://a b:1"], "")
            .failed(1, "getty: no certificate can be valid for \"a b\"");
    }
    // The system trusts no authority.
    let mut command = getty(&["connect", "tls://127.0.0.1:1"]);
    let output = command.env("SSL_CERT_FILE", empty).env_remove("SSL_CERT_DIR").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_load_over_tls() {
    let certificates = Certificates::new("load");
    for runtime in RUNTIMES {
        for url in URLS {
            let server = serve(url, &certificates, &["--runtime", runtime]);
            for args in [&["--size", "1"][..], &["--size", "100000", "--connections", "2", "--depth", "2"]] {
                let short = ["--warmup", "0.1", "--runtime", runtime, &server.url];
                let done = load(0.2, &[&short[..], args, &certificates.trusted()].concat()).succeeded();
                let row: Vec<&str> = done.text().lines().last().unwrap().split_whitespace().collect();
                assert_eq!(row[..3], [&url[..3], "-", runtime], "{row:?}");
            }
        }
    }
}

#[test]
fn a_load_of_a_client_with_a_certificate() {
    let certificates = Certificates::new("load-client");
    let server = serve(URLS[1], &certificates, &["--client-ca", &certificates.ca]);
    let bench = ["--warmup", "0", "--connections", "5", &server.url];
    load(0.1, &[&bench[..], &certificates.client()].concat()).succeeded();
    load(0.1, &[&bench[..], &certificates.trusted()].concat())
        .failed(1, "it requires a certificate from this end (see --cert)");
}

#[test]
fn with_a_certificate_tls_and_wss_are_measured_too() {
    let certificates = Certificates::new("itself");
    let bench = ["--warmup", "0", "--connections", "2"];
    let done = load(0.05, &[&bench[..], &certificates.server()].concat()).succeeded();
    for transport in ["tcp", "tls", "wss", "rpc/tls", "rpc/wss"] {
        let rows = done.text().lines().filter(|line| line.split_whitespace().next() == Some(transport));
        assert_eq!(rows.count(), RUNTIMES.len(), "{transport}");
    }
}

/// Whether openssl is installed. Fails if it is required and missing.
fn has_openssl() -> bool {
    let version = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
    let found = version.is_ok_and(|status| status.success());
    assert!(found || std::env::var_os("GETTY_REQUIRE_OPENSSL").is_none(), "no openssl found");
    if !found {
        // Not by a macro: the output of macros is shown for failed tests only.
        let _ = writeln!(std::io::stderr(), "skipped: no openssl found");
    }
    found
}
