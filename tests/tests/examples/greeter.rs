//! The example of an RPC server, as processes that get SIGTERM under 10 000 calls: what fails was not
//! executed, and succeeds on another server.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use getty_driver::rpc::{self, Caller, Code, Executed, Json, Services, Status};
use getty_tokio::Client;

#[expect(dead_code, reason = "its client and its `main` are for the command line")]
#[path = "../../../adapters/tokio/examples/greeter.rs"]
mod example;

/// Set in the environment of a process that is the server.
const ROLE: &str = "GETTY_TEST_GREETER";

/// Calls in all, for each server that is stopped.
const CALLS: usize = 10_000;

/// Calls at once: some wait for the limit of the server, which is 256.
const CALLERS: usize = 300;

/// The server, in the processes that [`Greeter::start`] starts.
#[test]
fn server() {
    if std::env::var_os(ROLE).is_some() {
        println!();
        runtime().block_on(example::serve("127.0.0.1:0")).unwrap();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A process that serves.
struct Greeter {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Greeter {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "greeter::server", "--nocapture"])
            .env(ROLE, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = said(&mut output, "listening ");
        Greeter { process, output, address }
    }

    fn terminate(&self) {
        let kill = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits for the end. Returns the number of calls that were answered.
    fn ended(mut self) -> usize {
        let greeted = said(&mut self.output, "greeted ").parse().unwrap();
        assert!(self.output.all(|line| line.is_ok()));
        assert!(self.process.wait().unwrap().success());
        greeted
    }

    async fn connect(&self) -> Caller {
        let (peer, caller) = rpc::peer(Services::new());
        Client::builder().tcp(&self.address, rpc::frames(), peer).await.unwrap();
        caller
    }
}

impl Drop for Greeter {
    /// Leaves no process behind when the test has failed.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The rest of the line that begins so.
fn said(output: &mut Lines<BufReader<ChildStdout>>, begin: &str) -> String {
    let mut lines = output.map(Result::unwrap);
    lines.find_map(|line| line.strip_prefix(begin).map(str::to_owned)).expect("the server says it")
}

async fn greet(caller: &Caller, number: usize) -> Result<(), Status> {
    let answer: String = caller.call("greet.Greeter/Hello", Json, &format!("{number}")).await?;
    assert_eq!(answer, format!("hello {number}, you called greet.Greeter/Hello"));
    Ok(())
}

#[test]
fn calls_that_a_stopped_server_has_not_executed_succeed_on_another() {
    runtime().block_on(async {
        for after in [0, 1, 1000, 9000] {
            let limit = Duration::from_secs(120);
            tokio::time::timeout(limit, stopped(after)).await.unwrap_or_else(|_| panic!("it hangs"));
        }
    });
}

/// Stops a server after a number of answers.
async fn stopped(after: usize) {
    let (first, second) = (Greeter::start(), Greeter::start());
    let (caller, other) = (first.connect().await, second.connect().await);
    if after == 0 {
        first.terminate();
    }
    let [next, answered, repeated] = [0; 3].map(AtomicUsize::new);
    let callers = (0..CALLERS).map(|_| async {
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number >= CALLS {
                return;
            }
            match greet(&caller, number).await {
                Ok(()) => {
                    if answered.fetch_add(1, Ordering::SeqCst) + 1 == after {
                        first.terminate();
                    }
                }
                Err(status) => {
                    assert_eq!(
                        (status.code(), status.executed()),
                        (Code::Unavailable, Executed::No),
                        "{status}"
                    );
                    repeated.fetch_add(1, Ordering::SeqCst);
                    greet(&other, number).await.unwrap();
                }
            }
        }
    });
    join_all(callers).await;
    second.terminate();
    let (answered, repeated) = (answered.into_inner(), repeated.into_inner());
    assert_eq!((first.ended(), second.ended()), (answered, repeated), "each was executed once");
    assert!(answered + repeated == CALLS && answered >= after && repeated > 0, "{answered} + {repeated}");
    println!("after {after}: {answered} were answered, {repeated} repeated");
}
