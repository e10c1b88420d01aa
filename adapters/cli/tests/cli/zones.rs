//! IPv6 addresses with a zone, in a network namespace of their own.

use std::process::Command;
use std::{env, thread};

use crate::certificates::Certificates;
use crate::support::{RUNTIMES, Server, run};

/// Set in the environment of the process inside the namespace.
const INSIDE: &str = "GETTY_TEST_NAMESPACE";

/// Whether this process has a network of its own. If not, runs the calling test again in a process that has
/// one; if that is impossible, nothing is tested.
fn is_inside() -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    const SETUP: &str = "ip link set lo up && ip addr add fe80::1/64 dev lo nodad";
    let in_namespace = |command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--user",
            "--map-root-user",
            "--net",
            "sh",
            "-c",
            &format!("{SETUP} && {command}"),
            "sh",
        ]);
        unshare
    };
    if !in_namespace("true").output().is_ok_and(|done| done.status.success()) {
        eprintln!("not tested: no network namespace is available");
        return false;
    }
    let mut again = in_namespace("exec \"$@\"");
    again.arg(env::current_exe().unwrap()).args(["--exact", thread::current().name().unwrap()]);
    let status = again.env(INSIDE, "1").status().unwrap();
    assert!(status.success(), "in a network namespace: {status}");
    false
}

#[test]
fn an_address_of_one_link() {
    if !is_inside() {
        return;
    }
    let certificates = Certificates::new("zones");
    for options in
        RUNTIMES.map(|runtime| ["--runtime", runtime]).into_iter().chain([["--per-core", "--stats"]])
    {
        let zones = if options[1] == "tokio" { &["lo", "1", "25lo"][..] } else { &["lo"] };
        for zone in zones {
            for scheme in ["tcp", "tls", "udp", "ws", "wss"] {
                if scheme == "udp" && options[0] == "--per-core" {
                    continue;
                }
                let secure = ["tls", "wss"].contains(&scheme);
                let (server_tls, client_tls) = (certificates.server(), ["--insecure"]);
                let tls = if secure { &server_tls[..] } else { &[] };
                let url = format!("{scheme}://[fe80::1%{zone}]:0");
                let server = Server::start_on(&url, &[&options[..], &["--threads", "2"], tls].concat());
                let told = zone.strip_prefix("25").unwrap_or(zone);
                assert!(server.url.starts_with(&format!("{scheme}://[fe80::1%{told}]:")), "{}", server.url);
                assert!(!server.url.contains("]:0"), "{}", server.url);
                let tls = if secure { &client_tls[..] } else { &[] };
                let done = run(&[&["connect", "--wait", "0.2", &server.url], tls].concat(), "hello\n");
                assert_eq!(done.succeeded().text(), "hello\n", "{url}");
                if options[1] == "tokio" && *zone == "lo" {
                    let light = ["--duration", "1", "--warmup", "0", "--connections", "1", "--depth", "1"];
                    run(&[&["bench", &server.url], &light[..], tls].concat(), "").succeeded();
                }
            }
        }
    }
}
