//! Runs the program, and peers for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The longest that anything may take before a test fails; far longer than it should.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub const RUNTIMES: [&str; 3] = ["tokio", "smol", "async-std"];

pub fn getty(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_getty"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The outcome of a run.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Done {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""));
        self
    }

    /// Checks that it failed with `code` and one line that contains `problem`.
    #[track_caller]
    pub fn failed(self, code: i32, problem: &str) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.err);
        assert!(self.err.contains(problem), "{problem:?} is not in {:?}", self.err);
        assert!(self.err.starts_with("getty: ") && self.err.lines().count() == 1, "{:?}", self.err);
        self
    }
}

/// Runs to the end with `input` as standard input.
pub fn run(args: &[&str], input: impl Into<Vec<u8>>) -> Done {
    let mut running = Running::start(args);
    let feeding = running.feed(input.into());
    let done = running.finish();
    feeding.join().unwrap();
    done
}

/// Runs `getty connect` and checks that exactly `expected` comes back. Tries again with a longer --wait,
/// since replies may be slow on a busy machine.
#[track_caller]
pub fn comes_back(args: &[&str], input: impl Into<Vec<u8>>, expected: &[u8]) {
    let input = input.into();
    let mut done = Vec::new();
    for wait in ["0.1", "1", "10"] {
        done = run(&[&["connect", "--wait", wait], args].concat(), input.clone()).succeeded().out;
        if done.len() >= expected.len() {
            break;
        }
    }
    assert!(done == expected, "{:?}", String::from_utf8_lossy(&done));
}

/// Runs `getty bench` for `seconds`, and for longer if nothing came back in that time.
pub fn load(seconds: f64, args: &[&str]) -> Done {
    let attempt = |seconds: f64| run(&[&["bench", "--duration", &seconds.to_string()], args].concat(), "");
    let is_enough = |done: &Done| !done.err.contains("no message came back within the measurement");
    longer_and_longer(seconds, attempt, is_enough)
}

/// Returns the result of `measure` for `seconds`, or for longer if that is not enough: little may happen in a
/// short time on a busy machine.
pub fn longer_and_longer<T>(seconds: f64, measure: impl Fn(f64) -> T, is_enough: impl Fn(&T) -> bool) -> T {
    let short = measure(seconds);
    if is_enough(&short) {
        return short;
    }
    let longer = measure(8.0 * seconds);
    if is_enough(&longer) { longer } else { measure(40.0 * seconds) }
}

/// Waits for something outside of this process. `what` says what.
#[cfg(target_os = "linux")]
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "not so: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The program while it runs. Killed when this is dropped.
pub struct Running {
    pub child: Child,
    pub out: Option<BufReader<ChildStdout>>,
    pub err: Option<BufReader<ChildStderr>>,
}

impl Running {
    pub fn start(args: &[&str]) -> Self {
        Self::of(&mut getty(args))
    }

    pub fn of(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take().map(BufReader::new);
        let err = child.stderr.take().map(BufReader::new);
        Running { child, out, err }
    }

    /// Writes `input` and then ends standard input, in a thread. The program may end before that.
    pub fn feed(&mut self, input: Vec<u8>) -> JoinHandle<()> {
        let mut stdin = self.child.stdin.take().unwrap();
        thread::spawn(move || {
            let _ = stdin.write_all(&input);
        })
    }

    /// Writes `input`, reads as many bytes from standard output, however long that takes, and only then ends
    /// standard input.
    pub fn exchange(&mut self, input: Vec<u8>) -> Vec<u8> {
        let mut output = vec![0; input.len()];
        let mut stdin = self.child.stdin.take().unwrap();
        let feeding = thread::spawn(move || {
            stdin.write_all(&input).unwrap();
            stdin
        });
        self.out.as_mut().unwrap().read_exact(&mut output).unwrap();
        drop(feeding.join().unwrap());
        output
    }

    /// The next line of standard output.
    pub fn line(&mut self) -> String {
        line(self.out.as_mut().unwrap())
    }

    /// Waits for the program to end.
    pub fn finish(mut self) -> Done {
        let (out, err) = (self.out.take(), self.err.take());
        let out = thread::spawn(move || read_all(out));
        let err = thread::spawn(move || read_all(err));
        let status = self.wait();
        Done {
            code: status.code(),
            out: out.join().unwrap(),
            err: String::from_utf8(err.join().unwrap()).unwrap(),
        }
    }

    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < DEADLINE, "the program does not end");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[cfg(unix)]
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// The peak memory so far, in bytes.
    #[cfg(target_os = "linux")]
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Number of threads whose names begin with `start`. A thread takes its name a moment after it has begun.
    #[cfg(target_os = "linux")]
    pub fn threads_named(&self, start: &str) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        // A thread may end before it is looked at.
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.starts_with(start)).count()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pipe: its read end and its write end. Programs started by other tests do not inherit them.
#[cfg(target_os = "linux")]
pub fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

pub fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line
}

fn read_all(from: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        from.read_to_end(&mut bytes).unwrap();
    }
    bytes
}

/// `getty serve` on a free port.
pub struct Server {
    pub running: Running,
    pub url: String,
}

impl Server {
    pub fn start(options: &[&str]) -> Self {
        Self::start_on("tcp://127.0.0.1:0", options)
    }

    pub fn start_on(url: &str, options: &[&str]) -> Self {
        let mut running = Running::start(&[&["serve", url], options].concat());
        let line = running.line();
        let url = line.trim_end().strip_prefix("listening ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Server { running, url }
    }

    pub fn connect(&self) -> TcpStream {
        with_deadline(TcpStream::connect(self.authority()).unwrap())
    }

    /// `HOST:PORT` of its URL.
    pub fn authority(&self) -> &str {
        let (_, rest) = self.url.split_once("://").unwrap();
        rest.split('/').next().unwrap()
    }

    /// Reads lines of standard error until one has `text`.
    pub fn wait_for_stats(&mut self, text: &str) {
        let err = self.running.err.as_mut().unwrap();
        // A line comes every second, and some may have come before.
        for _ in 0..60 {
            if line(err).contains(text) {
                return;
            }
        }
        panic!("no line of statistics contains {text:?}");
    }
}

/// Starts a peer that accepts one connection and does `work` with it. Returns its URL.
pub fn peer<T: Send + 'static>(
    work: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    (url, thread::spawn(move || work(with_deadline(listener.accept().unwrap().0))))
}

pub fn with_deadline(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// `payload` with its length in front.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    [&u32::try_from(payload.len()).unwrap().to_be_bytes(), payload].concat()
}

/// The next message, or `None` at the end.
pub fn read_frame(from: &mut impl Read) -> Option<Vec<u8>> {
    let mut header = [0; 4];
    match from.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return None,
        Err(error) => panic!("{error}"),
    }
    let mut payload = vec![0; u32::from_be_bytes(header) as usize];
    from.read_exact(&mut payload).unwrap();
    Some(payload)
}

/// Everything up to the end of the stream.
pub fn rest(stream: &mut impl Read) -> Vec<u8> {
    read_all(Some(stream))
}
