//! udp URLs. The peers of these tests send few enough datagrams at a time for a socket's buffer: none is lost
//! except on purpose.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::thread;

use serde_json::Value;

#[cfg(target_os = "linux")]
use crate::seccomp::Filter;
#[cfg(target_os = "linux")]
use crate::support::wait_until;
use crate::support::{
    DEADLINE, Done, RUNTIMES, Running, Server, comes_back, frame, getty, line, load, longer_and_longer, run,
};

/// A socket of the test, with its URL.
fn socket() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    (socket, url)
}

/// The next datagram and its sender.
fn next(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 65536];
    let (n, peer) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..n].to_vec(), peer)
}

#[test]
fn lines_come_back_as_datagrams_on_every_runtime() {
    for served in RUNTIMES {
        for threads in ["1", "2"] {
            let server = Server::start_on("udp://127.0.0.1:0", &["--runtime", served, "--threads", threads]);
            for runtime in RUNTIMES {
                let mut client =
                    Running::start(&["connect", "--runtime", runtime, "--wait", "0.2", &server.url]);
                let mut stdin = client.child.stdin.take().unwrap();
                for text in ["first\n", "\u{fc}ml\u{e4}ut\r\n", "third\n"] {
                    stdin.write_all(text.as_bytes()).unwrap();
                    assert_eq!(client.line(), text, "{runtime} to {served}");
                }
                stdin.write_all(b"last, without an end").unwrap();
                drop(stdin);
                assert_eq!(client.finish().succeeded().text(), "last, without an end\n");
            }
        }
    }
}

#[test]
fn a_datagram_holds_a_message_of_the_codec() {
    for (codec, sent) in [
        (&[][..], b"hello".to_vec()),
        (&["--codec", "raw"], b"hello".to_vec()),
        (&["--codec", "lines"], b"hello\n".to_vec()),
        (&["--codec", "length"], frame(b"hello")),
    ] {
        let server = Server::start_on("udp://127.0.0.1:0", codec);
        let (peer, _) = socket();
        peer.send_to(&sent, server.authority()).unwrap();
        assert_eq!(next(&peer).0, sent, "{codec:?}");
        comes_back(&[codec, &[&server.url]].concat(), "one\ntwo\n", b"one\ntwo\n");
    }
}

#[test]
fn messages_of_others_are_not_printed() {
    let (peer, url) = socket();
    let mut client = Running::start(&["connect", "--wait", "0.2", &url]);
    let mut stdin = client.child.stdin.take().unwrap();
    stdin.write_all(b"hello\n").unwrap();
    let (hello, address) = next(&peer);
    assert_eq!(hello, b"hello");
    socket().0.send_to(b"mine", address).unwrap();
    for text in [&b"yours"[..], b"two\nlines", b"\xff"] {
        peer.send_to(text, address).unwrap();
    }
    let mut out = client.out.take().unwrap();
    assert_eq!([line(&mut out), line(&mut out), line(&mut out)], ["yours\n", "two\n", "lines\n"]);
    drop(stdin);
    client.out = Some(out);
    assert_eq!(client.finish().succeeded().out, b"\xff\n");
}

/// The client has sent nothing, so its port is looked up in the system.
#[cfg(target_os = "linux")]
#[test]
fn echo_sends_back_until_it_is_killed() {
    for runtime in RUNTIMES {
        let (peer, url) = socket();
        let _client = Running::start(&["connect", "--runtime", runtime, "--echo", &url]);
        let address = connected_to(peer.local_addr().unwrap());
        for text in [&b"hello"[..], b"again"] {
            peer.send_to(text, address).unwrap();
            assert_eq!(next(&peer), (text.to_vec(), address));
        }
    }
}

/// The address of the socket that is connected to `peer`, waiting until there is one.
#[cfg(target_os = "linux")]
fn connected_to(peer: SocketAddr) -> SocketAddr {
    let port = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
    let start = std::time::Instant::now();
    while start.elapsed() < DEADLINE {
        let sockets = std::fs::read_to_string("/proc/net/udp").unwrap();
        for socket in sockets.lines().skip(1) {
            let fields: Vec<&str> = socket.split_whitespace().collect();
            if port(fields[2]) == Some(peer.port()) {
                return SocketAddr::new(peer.ip(), port(fields[1]).unwrap());
            }
        }
        thread::sleep(std::time::Duration::from_millis(2));
    }
    panic!("no socket is connected to {peer}");
}

#[test]
fn that_nobody_is_there_is_told_and_no_failure() {
    for runtime in RUNTIMES {
        let url = socket().1; // closed
        let mut client = Running::start(&["connect", "--runtime", runtime, "--wait", "0.2", &url]);
        let mut stdin = client.child.stdin.take().unwrap();
        stdin.write_all(b"hello\n").unwrap();
        let told = line(client.err.as_mut().unwrap());
        let expected = format!(
            "getty: {url}: a datagram was dropped: it did not arrive: Connection refused (os error 111)\n"
        );
        assert_eq!(told, expected, "{runtime}");
        // The session goes on.
        let peer = UdpSocket::bind(url.strip_prefix("udp://").unwrap()).unwrap();
        stdin.write_all(b"again\n").unwrap();
        let (again, address) = next(&peer);
        assert_eq!(again, b"again");
        peer.send_to(b"here", address).unwrap();
        assert_eq!(client.line(), "here\n");
        drop(stdin);
        client.finish().succeeded();
    }
}

#[test]
fn a_line_that_no_datagram_holds() {
    let (_peer, url) = socket();
    let problem = "a line of standard input exceeds the limit of 65507 bytes: raise --max-message";
    run(&["connect", &url], vec![b'x'; 65_508]).failed(1, problem);
    let problem = problem.replace("65507", "65503");
    run(&["connect", "--codec", "length", &url], vec![b'x'; 65_504]).failed(1, &problem);
    let server = Server::start_on("udp://127.0.0.1:0", &[]);
    let largest = vec![b'x'; 65_507];
    comes_back(&[&server.url], largest.clone(), &[largest, b"\n".to_vec()].concat());
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_server_on_every_runtime() {
    for runtime in RUNTIMES {
        for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
            let server = Server::start_on("udp://127.0.0.1:0", &["--runtime", runtime]);
            let (peer, _) = socket();
            peer.send_to(b"hello", server.authority()).unwrap();
            assert_eq!(next(&peer).0, b"hello");
            server.running.signal(signal);
            server.running.finish().succeeded();
        }
    }
}

#[test]
fn the_server_goes_on_whatever_comes_and_tells() {
    let options = ["--stats", "--codec", "length", "--max-message", "10"];
    let mut server = Server::start_on("udp://127.0.0.1:0", &options);
    let (peer, _) = socket();
    for bad in [&b""[..], b"\0\0\0\x02x", &[0; 15], b"\0\0\0\x01xy"] {
        peer.send_to(bad, server.authority()).unwrap();
    }
    server.wait_for_stats("errors 4 (last: ");
    peer.send_to(&frame(b"good"), server.authority()).unwrap();
    assert_eq!(next(&peer).0, frame(b"good"));
}

#[test]
fn each_peer_has_a_session_that_ends_when_it_is_idle() {
    for runtime in RUNTIMES {
        let options = ["--peers", "--idle", "0.1", "--stats", "--runtime", runtime];
        let mut server = Server::start_on("udp://127.0.0.1:0", &options);
        let peers: Vec<UdpSocket> = (0..3).map(|_| socket().0).collect();
        for (number, peer) in peers.iter().enumerate() {
            peer.send_to(&[number as u8], server.authority()).unwrap();
            assert_eq!(next(peer).0, [number as u8]);
        }
        server.wait_for_stats("sessions 0, opened 3, messages/s 0, MB/s 0.00, errors 0");
        peers[0].send_to(b"again", server.authority()).unwrap();
        assert_eq!(next(&peers[0]).0, b"again");
        server.wait_for_stats("opened 4");
    }
}

#[test]
fn who_loses_its_session_and_what_is_dropped_is_told() {
    let options = ["--peers=2", "--threads", "1", "--stats", "--codec", "length"];
    let mut server = Server::start_on("udp://127.0.0.1:0", &options);
    let peers: Vec<UdpSocket> = (0..3).map(|_| socket().0).collect();
    for peer in &peers {
        peer.send_to(&frame(b"hello"), server.authority()).unwrap();
        assert_eq!(next(peer).0, frame(b"hello"));
    }
    server.wait_for_stats("errors 1 (last: replaced by a new peer, as the peer silent the longest");
    peers[2].send_to(b"x", server.authority()).unwrap();
    server.wait_for_stats(
        "sessions 2, opened 3, messages/s 0, MB/s 0.00, errors 2 (last: a datagram was dropped",
    );
}

/// Each socket gets a part of the flood.
#[cfg(target_os = "linux")]
#[test]
fn a_flood_of_new_peers_is_told() {
    let options = ["--peers", "--threads", "16", "--stats"];
    let mut server = Server::start_on("udp://127.0.0.1:0", &options);
    for _ in 0..4000 {
        socket().0.send_to(b"hello", server.authority()).unwrap();
    }
    server.wait_for_stats("the latest: more than 62 new peers within a second)");
}

#[test]
fn peers_are_for_udp() {
    run(&["serve", "--peers", "tcp://127.0.0.1:0"], "").failed(2, "--peers needs a udp URL");
    run(&["serve", "--peers=0", "udp://127.0.0.1:0"], "").failed(2, "0 is not in 1..");
}

#[cfg(target_os = "linux")]
#[test]
fn each_thread_has_a_socket_of_the_one_port() {
    for runtime in RUNTIMES {
        for peers in [&[][..], &["--peers"]] {
            let options = [&["--runtime", runtime, "--threads", "3"], peers].concat();
            let server = Server::start_on("udp://127.0.0.1:0", &options);
            let address: SocketAddr = server.authority().parse().unwrap();
            wait_until("each thread has its socket", || sockets_at(address.port()) == 3);
            for number in 0..50 {
                let (peer, _) = socket();
                peer.send_to(&[number], address).unwrap();
                assert_eq!(next(&peer), (vec![number], address));
            }
            for threads in ["1", "3"] {
                run(&["serve", "--threads", threads, &server.url], "")
                    .failed(1, "can't listen on 127.0.0.1:");
            }
            server.running.signal(rustix::process::Signal::TERM);
            server.running.finish().succeeded();
        }
    }
    let server = Server::start_on("udp://127.0.0.1:0", &["--threads", "3", "--peers=2"]);
    let address: SocketAddr = server.authority().parse().unwrap();
    wait_until("as many sockets as there may be peers", || sockets_at(address.port()) == 2);
}

/// Number of sockets bound to `port`. The list is read page by page: if others close sockets meanwhile, some
/// may be missing.
#[cfg(target_os = "linux")]
fn sockets_at(port: u16) -> usize {
    let sockets = std::fs::read_to_string("/proc/net/udp").unwrap();
    let bound = |socket: &&str| socket.split_whitespace().nth(1).unwrap().ends_with(&format!(":{port:04X}"));
    sockets.lines().skip(1).filter(bound).count()
}

#[test]
fn addresses_that_can_not_be() {
    for runtime in RUNTIMES {
        let (_taken, url) = socket();
        run(&["serve", "--runtime", runtime, &url], "").failed(1, "can't listen on 127.0.0.1:");
        for command in ["connect", "bench"] {
            let url = "udp://no-such-host.invalid:1";
            run(&[command, "--runtime", runtime, url], "")
                .failed(1, "can't connect to no-such-host.invalid:1");
        }
    }
    run(&["connect", "--deflate", "udp://h:1"], "").failed(2, "--deflate needs a ws or wss URL");
}

/// Measures a peer that sends the result of `answers` for every datagram and its number. Runs for `seconds`,
/// and for longer, with a new peer each time, until there is enough to check.
fn bench<A>(
    name: &str,
    seconds: f64,
    args: &[&str],
    is_enough: impl Fn(&Value) -> bool,
    answers: impl Fn() -> A,
) -> (Done, Value)
where
    A: Fn(u64, &[u8]) -> Vec<Vec<u8>> + Send + 'static,
{
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("udp-{name}.json"));
    let path = path.to_str().unwrap();
    let measure = |seconds: f64| {
        let ((socket, url), answers) = (socket(), answers());
        thread::spawn(move || {
            for number in 0.. {
                let (datagram, peer) = next(&socket);
                for answer in answers(number, &datagram) {
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        let duration = seconds.to_string();
        let short =
            ["bench", "--duration", &duration, "--warmup", "0", "--connections", "1", "--json", path, &url];
        let done = run(&[&short, args].concat(), "");
        // No report is written if no message came back, but an earlier one may be left.
        let report = std::fs::read_to_string(path).unwrap_or_default();
        let report: Value = serde_json::from_str(&report).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        (done, report["runs"][0].clone())
    };
    longer_and_longer(seconds, measure, |(_, run)| run.is_object() && is_enough(run))
}

/// Whether at least `number` messages came back.
fn messages(number: u64) -> impl Fn(&Value) -> bool {
    move |run| counts(run)[0] >= number
}

/// Counts of a run: messages; lost, late, reordered and doubled ones; errors. Late ones were counted as lost
/// first, and on a busy machine any message may be late.
fn counts(run: &Value) -> [u64; 6] {
    ["messages", "lost", "late", "reordered", "doubled", "errors"].map(|name| run[name].as_u64().unwrap())
}

#[test]
fn a_load_without_loss_on_every_runtime() {
    for runtime in RUNTIMES {
        for size in ["1", "2", "8", "64", "65507"] {
            let args = ["--runtime", runtime, "--size", size, "--depth", "1"];
            let name = format!("{runtime}-{size}");
            let (done, run) =
                bench(&name, 0.2, &args, messages(1), || |_, message: &[u8]| vec![message.to_vec()]);
            let done = done.succeeded();
            let [_, lost, late, reordered, doubled, errors] = counts(&run);
            assert!(lost.saturating_sub(late) <= 1, "{run}"); // the last echo may still be missing
            assert_eq!([reordered, doubled, errors], [0; 3], "{runtime}, {size}");
            let rows: Vec<Vec<&str>> = done.text().lines().map(|l| l.split_whitespace().collect()).collect();
            let head = rows[2].len();
            assert_eq!(rows[2][head - 3..], ["lost", "reordered", "errors"]);
            assert_eq!(rows[3][rows[3].len() - 3..], [&*lost.to_string(), "0", "0"]);
            assert_eq!(rows[3][..3], ["udp", "-", runtime]);
        }
    }
}

#[test]
fn every_load_runs_against_every_server() {
    for served in RUNTIMES {
        let server = Server::start_on("udp://127.0.0.1:0", &["--runtime", served, "--threads", "1"]);
        for runtime in RUNTIMES {
            let args = ["--warmup", "0", "--connections", "20", "--depth", "2", "--runtime", runtime];
            let done = load(0.1, &[&args[..], &[&server.url]].concat()).succeeded();
            let row: Vec<&str> = done.text().lines().last().unwrap().split_whitespace().collect();
            assert_eq!((&row[..3], row.last()), (&["udp", "-", runtime][..], Some(&"0")), "{row:?}");
        }
    }
}

#[test]
fn udp_is_left_out_where_no_datagram_holds_a_message() {
    let done = load(0.1, &["--size", "65508", "--warmup", "0", "--connections", "1"]).succeeded();
    let transports = done.text().lines().skip(3).map(|line| line.split_whitespace().next().unwrap());
    let transports: Vec<&str> = transports.step_by(3).collect();
    let unix = |name| cfg!(unix).then_some(name);
    let expected = [Some("tcp"), unix("unix"), Some("ws"), Some("rpc/tcp"), unix("rpc/unix"), Some("rpc/ws")];
    assert_eq!(transports, expected.into_iter().flatten().collect::<Vec<_>>());
}

#[test]
fn what_is_lost_is_told_and_no_error() {
    for runtime in RUNTIMES {
        for size in ["1", "64"] {
            let args = ["--runtime", runtime, "--size", size, "--depth", "4"];
            let (done, run) = bench(&format!("lost-{runtime}-{size}"), 0.7, &args, messages(21), || {
                |number, message: &[u8]| if number % 3 == 2 { vec![] } else { vec![message.to_vec()] }
            });
            done.succeeded();
            let [messages, lost, late, _, doubled, errors] = counts(&run);
            assert_eq!([doubled, errors], [0; 2], "{run}");
            // A third of all messages sent, or half of those that come back. The last ones may be cut off.
            assert!(messages > 20 && lost.saturating_sub(late).abs_diff((messages + late) / 2) <= 8, "{run}");
        }
    }
}

/// Only unanswered messages are in flight, so that they must be noticed by their age.
#[test]
fn a_peer_that_falls_silent_gets_new_messages() {
    let (done, run) = bench("silent", 0.9, &["--depth", "4"], messages(101), || {
        |number, message: &[u8]| if (8..16).contains(&number) { vec![] } else { vec![message.to_vec()] }
    });
    done.succeeded();
    let [messages, lost, late, ..] = counts(&run);
    assert!(messages > 100, "no new messages: {run}");
    assert!((8..=12).contains(&lost.saturating_sub(late)), "{run}"); // and at most four at the end
}

#[test]
fn order_and_doubles_are_told() {
    let swap = || {
        let held = std::sync::Mutex::new(None);
        move |_, message: &[u8]| {
            let mut held = held.lock().unwrap();
            let Some(before) = held.take() else {
                *held = Some(message.to_vec());
                return vec![];
            };
            vec![message.to_vec(), before]
        }
    };
    let (done, run) = bench("swapped", 0.3, &["--depth", "4"], messages(20), swap);
    done.succeeded();
    let [came, _, late, reordered, doubled, errors] = counts(&run);
    assert!(reordered.abs_diff(came / 2) <= 5 + late && [doubled, errors] == [0; 2], "{run}");
    let twice = || |_, message: &[u8]| vec![message.to_vec(); 2];
    let (done, run) = bench("doubled", 0.3, &["--depth", "4"], messages(20), twice);
    done.succeeded();
    let [messages, lost, late, reordered, doubled, errors] = counts(&run);
    assert!(doubled.abs_diff(messages + late) <= 10 && [reordered, errors] == [0; 2], "{run}");
    assert!(lost.saturating_sub(late) <= 4, "{run}");
}

#[test]
fn echoes_that_come_late_are_told() {
    let answers = || {
        let kept = std::sync::Mutex::new(Vec::new());
        move |number, message: &[u8]| {
            let mut kept = kept.lock().unwrap();
            match number {
                0..4 => kept.push(message.to_vec()),
                4 => return kept.drain(..).chain([message.to_vec()]).collect(),
                _ => return vec![message.to_vec()],
            }
            vec![]
        }
    };
    let are_told = |run: &Value| counts(run)[0] > 0 && counts(run)[2] >= 4;
    let (done, run) = bench("late", 0.7, &["--depth", "4"], are_told, answers);
    done.succeeded();
    let [messages, lost, late, ..] = counts(&run);
    assert!(messages > 0 && late >= 4 && (late..=late + 4).contains(&lost), "{run}");
}

#[test]
fn payloads_that_come_back_wrong() {
    type Answer = fn(u64, &[u8]) -> Vec<Vec<u8>>;
    let answers: [(&str, Answer); 4] = [
        ("body", |_, message| vec![[&message[..20], &[message[20] ^ 1], &message[21..]].concat()]),
        ("stamp", |_, message| vec![[&[message[0]], &[message[1] ^ 0x80], &message[2..]].concat()]),
        ("size", |_, message| vec![message[1..].to_vec()]),
        ("one", |number, message| vec![if number == 50 { vec![0; 64] } else { message.to_vec() }]),
    ];
    for (name, answer) in answers {
        let is_enough = |run: &Value| run["wrong_payloads"].as_u64() > Some(0);
        let (done, run) = bench(&format!("wrong-{name}"), 0.4, &["--depth", "4"], is_enough, || answer);
        done.failed(1, "payloads came back changed");
        assert!(run["wrong_payloads"].as_u64().unwrap() > 0, "{run}");
        assert_eq!(run["lost_connections"], 0);
    }
}

#[test]
fn a_load_on_nobody() {
    let url = socket().1; // closed
    let args = ["bench", "--duration", "0.3", "--warmup", "0", "--connections", "2", &url];
    let problem = "no message came back within the measurement: a datagram was dropped: \
                   it did not arrive: Connection refused (os error 111)";
    for runtime in RUNTIMES {
        run(&[&args[..], &["--runtime", runtime]].concat(), "").failed(1, problem);
    }
    run(&["bench", "--size", "65508", &url], "")
        .failed(2, "a datagram can't hold 65508 bytes: lower --size to 65507");
}

/// Runs `serve` with `args` while every receive fails with `errno`; it must end with that reason.
#[cfg(target_os = "linux")]
fn ends_of_errors(args: &[&str], errno: i32) {
    use std::os::unix::process::CommandExt;

    let mut command = getty(&[&["serve", "tcp://127.0.0.1:0", "udp://127.0.0.1:0"], args].concat());
    let mut filter = Filter::new(&[libc::SYS_recvmmsg, libc::SYS_recvmsg], errno);
    // SAFETY: between fork and exec it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(move || filter.install()) };
    let mut server = Running::of(&mut command);
    server.line();
    let url = server.line().trim_end().strip_prefix("listening ").unwrap().to_owned();
    let why = std::io::Error::from_raw_os_error(errno);
    server.finish().failed(1, &format!("can't serve {url} any longer: {why}"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_whose_socket_is_dead_ends() {
    for runtime in RUNTIMES {
        for peers in [&[][..], &["--peers"]] {
            ends_of_errors(&[&["--runtime", runtime], peers].concat(), libc::ENOSYS);
        }
    }
}

/// A signal while the sessions of the other URL are being closed does not hide the reason.
#[cfg(target_os = "linux")]
#[test]
fn why_a_socket_failed_is_told_after_a_signal_too() {
    use std::os::unix::process::CommandExt;

    use rustix::process::Signal;

    use crate::support::{read_frame, rest, with_deadline};

    let ends = RUNTIMES.map(|runtime| {
        thread::spawn(move || {
            let urls = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"];
            let options = ["--grace", "1000", "--runtime", runtime];
            let mut command = getty(&[&["serve"], &urls[..], &options].concat());
            // The error may be temporary, so the server waits a few seconds, in which this client connects.
            let mut filter = Filter::new(&[libc::SYS_recvmmsg, libc::SYS_recvmsg], libc::EPERM);
            // SAFETY: between fork and exec it makes two system calls and allocates nothing.
            unsafe { command.pre_exec(move || filter.install()) };
            let mut server = Running::of(&mut command);
            let tcp = server.line();
            let address = tcp.trim_end().strip_prefix("listening tcp://").unwrap();
            let mut client = with_deadline(std::net::TcpStream::connect(address).unwrap());
            client.write_all(&frame(b"hello")).unwrap();
            assert_eq!(read_frame(&mut client).unwrap(), b"hello");
            assert_eq!(rest(&mut client), b"", "the server closes its side, and waits for this one");
            server.signal(Signal::TERM);
            server.finish().failed(1, "can't serve udp://127.0.0.1:");
        })
    });
    ends.into_iter().for_each(|end| end.join().unwrap());
}

/// The error may be temporary, so the server waits a few seconds.
#[cfg(target_os = "linux")]
#[test]
fn so_does_one_whose_socket_gives_an_error_again_and_again() {
    let servers =
        RUNTIMES.map(|runtime| thread::spawn(move || ends_of_errors(&["--runtime", runtime], libc::EPERM)));
    servers.into_iter().for_each(|server| server.join().unwrap());
}
