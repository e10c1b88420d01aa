//! SIGHUP and start-up with files that keep their reader waiting.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::process::Signal;

use crate::certificates::Certificates;
use crate::support::{DEADLINE, RUNTIMES, Running, Server, line, run};

/// Opens a FIFO as soon as something reads from it.
fn open_when_read(path: &str) -> File {
    let start = Instant::now();
    loop {
        let flags = OFlags::NONBLOCK.bits() as i32;
        match File::options().write(true).custom_flags(flags).open(path) {
            Ok(file) => return file,
            Err(error) => assert!(start.elapsed() < DEADLINE, "{path} is not read: {error}"),
        }
    }
}

#[track_caller]
fn comes_back(url: &str, options: &[&str]) {
    let done = run(&[&["connect", "--wait", "0.2", url], options].concat(), "hello\n").succeeded();
    assert_eq!(done.text(), "hello\n");
}

#[test]
fn sessions_are_served_while_a_file_lets_its_reader_wait() {
    for options in
        RUNTIMES.map(|runtime| ["--runtime", runtime]).into_iter().chain([["--per-core", "--stats"]])
    {
        let certificates = Certificates::new("fifo");
        let options = [&certificates.server()[..], &["--threads", "1"], &options].concat();
        let mut server = Server::start_on("tls://127.0.0.1:0", &options);
        let mut before = Running::start(&[&["connect", &server.url], &certificates.trusted()[..]].concat());
        let mut stdin = before.child.stdin.take().unwrap();
        let pem = fs::read(&certificates.cert).unwrap();
        fs::remove_file(&certificates.cert).unwrap();
        assert!(Command::new("mkfifo").arg(&certificates.cert).status().unwrap().success());
        server.running.signal(Signal::HUP);
        let mut fifo = open_when_read(&certificates.cert);
        // Nothing has been written to the FIFO yet.
        stdin.write_all(b"still there\n").unwrap();
        assert_eq!(before.line(), "still there\n");
        comes_back(&server.url, &certificates.trusted());
        let told = |server: &mut Server| loop {
            let line = line(server.running.err.as_mut().unwrap());
            if line.starts_with("getty: ") {
                return line;
            }
        };
        // However often it is asked meanwhile, it reads only once more.
        for _ in 0..3 {
            server.running.signal(Signal::HUP);
            let expected = "getty: the certificate is still being read, and will be read again after that\n";
            assert_eq!(told(&mut server), expected);
        }
        fifo.write_all(&pem).unwrap();
        drop(fifo);
        assert_eq!(told(&mut server), "getty: the certificate was reloaded\n");
        fifo = open_when_read(&certificates.cert);
        fifo.write_all(&pem).unwrap();
        drop(fifo);
        assert_eq!(told(&mut server), "getty: the certificate was reloaded\n");
        server.running.signal(Signal::USR1);
        assert_eq!(told(&mut server), "getty: 1 sessions\n");
        // A file that keeps it waiting does not delay the end either.
        server.running.signal(Signal::HUP);
        let _held = open_when_read(&certificates.cert);
        server.running.signal(Signal::TERM);
        drop(stdin);
        assert_eq!(server.running.wait().code(), Some(0));
    }
}

/// The certificates are pipes, so that each can be read only once.
#[test]
fn a_server_starts_from_what_is_no_file() {
    let certificates = Certificates::new("substitution");
    let script =
        r#"exec "$0" serve --cert <(cat "$1") --key <(cat "$2") --client-ca <(cat "$3") tls://127.0.0.1:0"#;
    let mut command = Command::new("bash");
    command.args(["-c", script, env!("CARGO_BIN_EXE_getty"), &certificates.cert, &certificates.key]);
    command.arg(&certificates.ca).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::of(&mut command);
    let line = running.line();
    let url = line.trim_end().strip_prefix("listening ").unwrap_or_else(|| panic!("{line:?}"));
    comes_back(url, &certificates.client());
    running.signal(Signal::HUP);
    let told = crate::support::line(running.err.as_mut().unwrap());
    assert!(told.ends_with(": the old certificate stays\n"), "{told}");
    comes_back(url, &certificates.client());
}
