//! `getty bench`.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::support::{Done, RUNTIMES, Running, Server, frame, load, read_frame, run};

/// Seconds that a run measures, unless nothing comes back in that time.
const SHORT: f64 = 0.3;

/// A path for a file of one test.
fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_file(&path);
    path.to_str().unwrap().to_owned()
}

fn bench(args: &[&str]) -> Done {
    load(SHORT, &[&["--warmup", "0.1"], args].concat())
}

/// Keeps so little in flight that something comes back even on a busy machine.
fn light(args: &[&str]) -> Done {
    let light = ["--duration", "1", "--warmup", "0", "--connections", "1", "--depth", "1"];
    run(&[&["bench"], &light[..], args].concat(), "")
}

fn json(path: &str) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn against_itself() {
    let path = file("itself.json");
    let done = bench(&["--connections", "5", "--json", &path]).succeeded();
    let report = json(&path);
    let seconds = report["duration_s"].as_f64().unwrap();
    assert!(seconds >= SHORT);
    assert_eq!((&report["size"], &report["depth"]), (&64.into(), &16.into()));
    // The table says the same.
    let lines: Vec<Vec<&str>> = done.text().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines[0].join(" "),
        format!(
            "5 connections, server: in-process, 16 messages of 64 bytes in flight on each, {seconds} s after 0.1 s"
        )
    );
    assert_eq!(lines[2][..4], ["transport", "server", "load", "messages"]);
    let runs = report["runs"].as_array().unwrap();
    let transports: &[&str] = if cfg!(unix) {
        &["tcp", "unix", "udp", "ws", "rpc/tcp", "rpc/unix", "rpc/ws"]
    } else {
        &["tcp", "udp", "ws", "rpc/tcp", "rpc/ws"]
    };
    let expected = transports.iter().flat_map(|transport| RUNTIMES.map(|runtime| (transport, runtime)));
    assert_eq!((runs.len(), lines.len()), (transports.len() * 3, transports.len() * 3 + 3));
    for ((transport, runtime), (run, line)) in expected.zip(runs.iter().zip(&lines[3..])) {
        check_run(run, transport, [runtime; 2], seconds);
        assert_eq!(line[..4], [*transport, runtime, runtime, &run["messages"].to_string()]);
        assert_eq!(line.last(), Some(&"0"));
    }
}

#[test]
fn the_load_may_be_on_another_runtime() {
    let path = file("mixed.json");
    let plot = file("mixed.svg");
    bench(&["--runtime", "smol", "--connections", "5", "--json", &path, "--plot", &plot]).succeeded();
    let report = json(&path);
    for (run, runtime) in report["runs"].as_array().unwrap().iter().zip(RUNTIMES) {
        check_run(run, "tcp", [runtime, "smol"], report["duration_s"].as_f64().unwrap());
    }
    let plot = std::fs::read_to_string(plot).unwrap();
    assert!(plot.contains(">tcp on smol<") && plot.contains(">ws on tokio, load on smol<"), "{plot}");
}

/// Checks the results for 5 connections to a server in the same process, with messages of 64 bytes, measured
/// for `seconds`.
fn check_run(run: &serde_json::Value, transport: &str, [server, load]: [&str; 2], seconds: f64) {
    assert_eq!(
        (&run["transport"], &run["server_runtime"], &run["load_runtime"]),
        (&transport.into(), &server.into(), &load.into())
    );
    assert_eq!(
        (&run["connections"], &run["errors"], &run["server"], &run["deflate"]),
        (&5.into(), &0.into(), &"in-process".into(), &false.into())
    );
    let messages = run["messages"].as_u64().unwrap();
    assert!(messages > 0);
    let number = |name: &str| run[name].as_f64().unwrap();
    let percentiles = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(number);
    assert!(percentiles.is_sorted() && percentiles[0] > 0.0, "{percentiles:?}");
    let rate = number("messages_per_s");
    // The measurement may take longer than planned, but not much less.
    let shorter = rate * seconds / messages as f64;
    assert!(shorter > 0.0 && shorter <= 1.5, "{rate} messages/s, {messages} messages");
    assert!((number("mb_per_s") - rate * 64.0 / 1e6).abs() < 0.01);
    if cfg!(unix) {
        assert!(number("cpu_us_per_message") > 0.0);
    }
}

#[test]
fn against_a_server() {
    for server in [Server::start(&[]), Server::start_on("ws://127.0.0.1:0/echo", &["--deflate"])] {
        for args in [
            &["--size", "1"][..],
            &["--size", "100000", "--connections", "2", "--depth", "2"],
            &["--depth", "5000", "--connections", "2"],
            &["--connections", "200"],
        ] {
            measure(&server, args);
        }
    }
}

/// Runs a measurement against a server and returns its results.
fn measure(server: &Server, args: &[&str]) -> serde_json::Value {
    let path = file(&format!("server-{}.json", server.running.child.id()));
    bench(&[args, &["--json", &path, &server.url]].concat()).succeeded();
    let run = json(&path)["runs"][0].take();
    assert_eq!((&run["server"], &run["errors"]), (&server.url.as_str().into(), &0.into()));
    assert!(run["messages"].as_u64().unwrap() > 0, "{args:?}");
    run
}

#[test]
fn compression_is_told_as_it_was_agreed() {
    let server = Server::start_on("ws://127.0.0.1:0", &["--deflate"]);
    let args = ["--deflate", "--ping", "0.01", "--size", "1000", "--connections", "2", "--depth", "2"];
    assert_eq!(measure(&server, &args)["deflate"], true);
    assert_eq!(measure(&server, &[])["deflate"], false);
    let server = Server::start_on("ws://127.0.0.1:0", &[]);
    assert_eq!(measure(&server, &["--deflate"])["deflate"], false);
}

#[test]
fn a_handshake_that_fails() {
    let server = Server::start_on("ws://127.0.0.1:0/here", &[]);
    let url = format!("{}/not", server.url);
    // Fails at once, before anything is measured.
    let args = ["bench", "--duration", "1000", &url];
    run(&args, "")
        .failed(1, &format!("{url}: handshake: the server answered 404 \"Not Found\", expected 101"));
}

#[test]
fn packages_of_a_codec_are_not_what_is_sent_over_ws() {
    let server = Server::start_on("ws://127.0.0.1:0", &["--codec", "length"]);
    bench(&["--connections", "1", &server.url]).failed(1, "closed by the peer: code 1007");
}

#[test]
fn the_plot_is_an_svg_picture() {
    let path = file("plot.svg");
    bench(&["--plot", &path]).succeeded();
    let text = std::fs::read_to_string(&path).unwrap();
    let picture = roxmltree::Document::parse(&text).unwrap();
    let root = picture.root_element();
    assert_eq!(
        (root.tag_name().name(), root.tag_name().namespace()),
        ("svg", Some("http://www.w3.org/2000/svg"))
    );
    let mut curves =
        picture.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "polyline")));
    let points: Vec<(f64, f64)> = curves
        .next()
        .unwrap()
        .attribute("points")
        .unwrap()
        .split(' ')
        .map(|point| point.split_once(',').unwrap())
        .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
        .collect();
    assert!(points.len() > 100);
    // Each point lies to the right of the one before and not below it, within the picture.
    assert!(points.is_sorted_by(|a, b| a.0 < b.0 && a.1 >= b.1), "{points:?}");
    assert!(
        points.iter().all(|&(x, y)| (80.0..=776.0).contains(&x) && (44.0..=380.0).contains(&y)),
        "{points:?}"
    );
    assert_eq!(curves.count(), if cfg!(unix) { 20 } else { 14 }, "curves after the first");
    assert!(["tcp on tokio", "ws on async-std", "99 %"].iter().all(|&label| text.contains(label)));
}

/// Makes an empty folder for one test.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir(&path).unwrap();
    path
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn earlier_results_stay_until_there_are_others() {
    let folder = folder("earlier");
    let (json_file, plot) = (folder.join("out.json"), folder.join("out.svg"));
    let (json_path, plot_path) = (json_file.to_str().unwrap(), plot.to_str().unwrap());
    for path in [&json_file, &plot] {
        std::fs::write(path, "earlier").unwrap();
    }
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let full = "/dev/full";
    for (args, problem) in [
        (&["--json", json_path, "--plot", plot_path, &format!("tcp://{gone}")][..], "can't connect"),
        (&["--json", json_path, "--plot", "/nowhere/out.svg"], "can't write /nowhere/out.svg"),
        (&["--json", json_path, "--plot", env!("CARGO_TARGET_TMPDIR")], "is a directory"),
        (&["--json", json_path, "--plot", plot_path, "--ca", "/nowhere.pem", "tls://h:1"], "/nowhere.pem"),
        #[cfg(target_os = "linux")]
        (&["--json", full, "--plot", plot_path], "can't write /dev/full: No space left"),
    ] {
        light(args).failed(1, problem);
        assert_eq!([read(&json_file), read(&plot)], ["earlier", "earlier"], "{problem}");
        assert_eq!(names(&folder), ["out.json", "out.svg"], "{problem}");
    }
    // While a measurement runs.
    let server = Server::start(&[]);
    let url = &server.url;
    let mut running =
        Running::start(&["bench", "--duration", "1000", "--json", json_path, "--plot", plot_path, url]);
    let mut probe = server.connect();
    probe.write_all(&frame(b"hello")).unwrap();
    read_frame(&mut probe).unwrap();
    assert_eq!([read(&json_file), read(&plot)], ["earlier", "earlier"]);
    running.child.kill().unwrap();
    running.wait();
    assert_eq!([read(&json_file), read(&plot)], ["earlier", "earlier"]);
    assert_eq!(names(&folder), ["out.json", "out.svg"], "a run that was killed leaves nothing behind");
    light(&["--json", json_path, "--plot", plot_path, url]).succeeded();
    json(json_path);
    assert!(read(&plot).starts_with("<svg"));
    assert_eq!(names(&folder), ["out.json", "out.svg"]);
}

#[test]
fn results_on_standard_output() {
    let server = Server::start(&[]);
    let done = light(&["--json", "-", &server.url]).succeeded();
    let report: serde_json::Value = serde_json::from_slice(&done.out).unwrap();
    assert_eq!(report["runs"][0]["errors"], 0);
    let done = light(&["--plot", "-", &server.url]).succeeded();
    assert!(roxmltree::Document::parse(done.text()).is_ok());
    let path = file("beside.json");
    let done = light(&["--plot", "-", "--json", &path, &server.url]).succeeded();
    assert!(done.text().starts_with("<svg") && json(&path)["runs"].is_array());
    for path in ["-", "file"] {
        run(&["bench", "--json", path, "--plot", path], "").failed(2, "--json and --plot name the same file");
    }
    assert!(!Path::new("-").exists());
}

/// Links stay links, devices stay devices, and a file keeps its permissions.
#[cfg(unix)]
#[test]
fn what_is_at_the_path_stays_what_it_is() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    let server = Server::start(&[]);
    let folder = folder("kinds");
    let path = |name: &str| folder.join(name);
    std::fs::write(path("file"), "earlier").unwrap();
    std::fs::set_permissions(path("file"), std::fs::Permissions::from_mode(0o600)).unwrap();
    symlink("file", path("link")).unwrap();
    symlink("new", path("dangling")).unwrap();
    symlink("second", path("chain")).unwrap();
    symlink(folder.join("third"), path("second")).unwrap();
    symlink("end", path("third")).unwrap();
    for name in ["link", "dangling", "chain"] {
        light(&["--json", path(name).to_str().unwrap(), &server.url]).succeeded();
        assert!(path(name).symlink_metadata().unwrap().is_symlink());
        json(path(name).to_str().unwrap());
    }
    assert_eq!(path("file").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(path("second").is_symlink() && path("third").is_symlink() && path("end").is_file());
    let all = ["chain", "dangling", "end", "file", "link", "new", "second", "third"];
    assert_eq!(names(&folder), all);
    light(&["--json", "/dev/null", &server.url]).succeeded();
    assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert!(std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
    let reading = {
        let path = path("fifo");
        thread::spawn(move || std::fs::read(path).unwrap())
    };
    light(&["--json", path("fifo").to_str().unwrap(), &server.url]).succeeded();
    assert!(reading.join().unwrap().starts_with(b"{"));
    let done = light(&["--json", "/dev/stdout", &server.url]).succeeded();
    assert!(done.text().contains("\"runs\"") && done.text().contains("messages/s"));
}

/// The path is one that a shell passes for `>(..)`.
#[cfg(target_os = "linux")]
#[test]
fn results_through_a_descriptor() {
    let server = Server::start(&[]);
    let folder = folder("descriptors");
    for path in ["/dev/fd/7", "/proc/self/fd/7", "/proc/thread-self/fd/7"] {
        for open in ["exec 7>&1", "exec 7<>removed 8<removed && rm removed"] {
            let script = format!("{open} && \"$@\" > /dev/null && if [ -e /dev/fd/8 ]; then cat <&8; fi");
            let mut command = std::process::Command::new("sh");
            command.current_dir(&folder).args(["-c", &script, "sh", env!("CARGO_BIN_EXE_getty"), "bench"]);
            command.args(["--duration", "1", "--warmup", "0", "--connections", "1", "--json", path]);
            let done = command.arg(&server.url).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&done.stderr), "", "{path} after {open}");
            let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
            assert_eq!(report["runs"][0]["errors"], 0);
        }
    }
    assert!(names(&folder).is_empty());
}

/// Starts a server that replies to each message with the result of `answer`; `None` ends the connection.
fn bad_server(answer: fn(Vec<u8>) -> Option<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let serve = move |mut stream: TcpStream| {
        while let Some(message) = read_frame(&mut stream) {
            let Some(answer) = answer(message) else { return };
            if stream.write_all(&frame(&answer)).is_err() {
                return;
            }
        }
    };
    thread::spawn(move || {
        listener.incoming().for_each(|stream| drop(thread::spawn(move || serve(stream.unwrap()))))
    });
    url
}

#[test]
fn payloads_that_come_back_changed() {
    let url = bad_server(|mut message| {
        message[20] ^= 1;
        Some(message)
    });
    let path = file("changed.json");
    bench(&["--connections", "2", "--json", &path, &url]).failed(1, "payloads came back changed");
    let run = &json(&path)["runs"][0];
    assert!(run["errors"].as_u64().unwrap() > 0);
    assert_eq!(run["errors"], run["wrong_payloads"]);
    assert_eq!(run["lost_connections"], 0);
}

#[test]
fn connections_that_end() {
    for (url, problem) in [
        (bad_server(|_| None), "2 connections ended early (the first: "),
        (
            bad_server(|message| Some(message[1..].to_vec())),
            "2 connections ended early (the first: codec: sent a message of 64 bytes, received an echo of 63 bytes)",
        ),
        // Both are found out at once, not only after the time of a measurement.
    ] {
        let path = file("end.json");
        let args = ["bench", "--connections", "2", "--duration", "1000", "--json", &path, &url];
        run(&args, "").failed(1, problem);
        let run = &json(&path)["runs"][0];
        assert_eq!((&run["errors"], &run["lost_connections"]), (&2.into(), &2.into()));
    }
}

#[test]
fn a_server_that_does_not_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let problem = "64 connections ended early (the first: no echo within 5s after the end)";
    bench(&[&url]).failed(1, problem);
}

#[test]
fn a_server_that_answers_too_late() {
    let url = bad_server(|message| {
        thread::sleep(Duration::from_millis(500));
        Some(message)
    });
    let args = ["bench", "--connections", "1", "--depth", "1", "--warmup", "0", "--duration", "0.1", &url];
    run(&args, "").failed(1, "no message came back within the measurement: see --duration");
}
