//! Runs tests in a network namespace of their own, with a loopback interface that no other process uses.

use std::net::SocketAddr;
use std::process::Command;
use std::{env, thread};

use socket2::{Domain, Protocol, Socket, Type};

/// Set in the environment of the process inside the namespace.
const INSIDE: &str = "GETTY_TEST_NAMESPACE";

/// Whether this process has a network of its own, set up by the shell command `setup`. If not, runs the
/// calling test again in a process that has one; if that is impossible, nothing is tested.
pub fn is_inside(setup: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let in_namespace = |command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--net", "sh", "-c"]);
        unshare.args([&format!("{setup} && {command}"), "sh"]);
        unshare
    };
    if !in_namespace("true").output().is_ok_and(|done| done.status.success()) {
        eprintln!("not tested: no network namespace can be set up by `{setup}`");
        return false;
    }
    let status = in_namespace("exec \"$@\"")
        .arg(env::current_exe().unwrap())
        .args(["--exact", thread::current().name().unwrap()])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "in a network namespace: {status}");
    false
}

/// A socket that sends packets to which the system adds the IP header.
pub fn raw(domain: Domain, protocol: Protocol) -> Socket {
    Socket::new(domain, Type::RAW, Some(protocol)).unwrap()
}

/// The UDP header of an empty datagram.
pub fn udp_header(from: u16, to: u16) -> Vec<u8> {
    [from.to_be_bytes(), to.to_be_bytes(), [0, 8], [0, 0]].concat()
}

/// Sends an ICMP or ICMPv6 message about a datagram from `from` to `to`, with this type and code, and `rest`
/// of its header.
pub fn icmp(kind: u8, code: u8, rest: u32, from: SocketAddr, to: SocketAddr) {
    let header = [&[kind, code, 0, 0], &rest.to_be_bytes()[..]].concat();
    let udp = udp_header(from.port(), to.port());
    match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
            let mut packet = [&header, &ip[..], &from.ip().octets(), &to.ip().octets(), &udp].concat();
            let sum: u32 = packet.chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum();
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
            let to = SocketAddr::from((*from.ip(), 0));
            raw(Domain::IPV4, Protocol::ICMPV4).send_to(&packet, &to.into()).unwrap();
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let ip = [0x60, 0, 0, 0, 0, 8, 17, 64];
            let packet = [&header, &ip[..], &from.ip().octets(), &to.ip().octets(), &udp].concat();
            let to = SocketAddr::from((*from.ip(), 0));
            raw(Domain::IPV6, Protocol::ICMPV6).send_to(&packet, &to.into()).unwrap();
        }
        _ => unreachable!("both addresses are of one family"),
    }
}
