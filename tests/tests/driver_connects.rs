//! A thousand clients connect at once, or as many as `GETTY_CONNECTS` in the environment says.
//!
//! Limits of descriptors are for a whole process, and other tests must not disturb the counts at the end. So
//! a test runs itself again in a process for the server, and that one again in a process for the clients.

mod driver_common;
mod tls_common;

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;
use std::{env, thread};

use bytes::Bytes;
use driver_common::descriptors::descriptors;
use driver_common::recorder::{Log, Recorder};
use driver_common::runtimes::{TestRuntime, blocking, server, sleep, until, within};
use driver_common::*;
use futures::future::join_all;
use getty_core::codec::LengthDelimited;
use getty_core::{Close, Config, Framed, Protocol, framed};
use getty_driver::tls::{ClientTls, Identity, ServerTls};
use getty_driver::{Client, Connection, Server};
use tls_common::World;

on_every_runtime!(all_are_served, all_are_served_over_tls);

/// Role of a process: `server`, or a client of the given address.
const ROLE: &str = "GETTY_TEST_CONNECTS_ROLE";

/// The roots that clients trust, in PEM, if they use TLS.
const ROOTS: &str = "GETTY_TEST_CONNECTS_ROOTS";

fn all_are_served<R: TestRuntime>() {
    crowd::<R>(number(), false);
}

/// A tenth of the clients, since handshakes take time.
fn all_are_served_over_tls<R: TestRuntime>() {
    crowd::<R>(number() / 10, true);
}

fn number() -> usize {
    env::var("GETTY_CONNECTS").map_or(1000, |number| number.parse().unwrap())
}

fn crowd<R: TestRuntime>(clients: usize, is_tls: bool) {
    match env::var(ROLE) {
        Err(_) => run_server(clients),
        Ok(role) if role == "server" => R::run(serve::<R>(clients, is_tls)),
        Ok(address) => R::run(within::<R, _>(secs(300), connect::<R>(clients, &address))),
    }
}

fn run_server(clients: usize) {
    let descriptors = clients + 100;
    let limit = format!("ulimit -n {descriptors}");
    if !Command::new("sh").args(["-c", &limit]).status().is_ok_and(|status| status.success()) {
        return eprintln!("not tested: the limit of descriptors can't be raised to {descriptors}");
    }
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("{limit} && exec \"$@\""), "sh"]).arg(env::current_exe().unwrap());
    let status = this_test(&mut limited).env(ROLE, "server").status().unwrap();
    assert!(status.success(), "the server: {status}");
}

/// Starts the clients' process, which ends once its standard input does.
fn run_clients(address: String, roots: Option<String>) -> Child {
    let mut clients = Command::new(env::current_exe().unwrap());
    let clients = this_test(&mut clients).env(ROLE, address).stdin(Stdio::piped());
    roots.into_iter().fold(clients, |clients, roots| clients.env(ROOTS, roots)).spawn().unwrap()
}

fn this_test(program: &mut Command) -> &mut Command {
    program.args(["--nocapture", "--exact", thread::current().name().unwrap()])
}

/// A configuration in which a handshake may wait for all the others.
fn patient() -> Arc<Config> {
    config(|c| c.handshake_timeout(secs(300)))
}

async fn serve<R: TestRuntime>(clients: usize, is_tls: bool) {
    let world = is_tls.then(World::new);
    let log = Log::default();
    let server = listen::<R>(world.as_ref(), &log).await;
    let before = descriptors();
    let began = Instant::now();
    let roots = world.map(|world| world.authority.pem());
    let mut process = run_clients(server.local_addr().to_string(), roots);

    while log.count("on_message") < clients {
        let status = process.try_wait().unwrap();
        assert!(status.is_none(), "{} of {clients} were served: {status:?}", log.count("on_message"));
        sleep::<R>(10 * MS).await;
    }
    eprintln!("{clients} clients were served after {:?}", began.elapsed()); // for information only
    let stats = server.stats();
    assert_eq!((stats.sessions, stats.opening, stats.accepted), (clients, 0, clients as u64));
    assert_eq!((stats.refused.total(), stats.failures), (0, 0));

    let status = blocking(move || {
        drop(process.stdin.take());
        process.wait().unwrap()
    });
    assert!(status.await.success(), "the clients");
    until::<R>("all have left", || server.sessions() == 0).await;
    assert_eq!(log.count("on_open"), clients);
    assert_eq!(log.count("on_close: closed by the peer"), clients);
    until::<R>("as many descriptors as before", || descriptors() == before).await;
}

async fn listen<R: TestRuntime>(world: Option<&World>, log: &Log) -> Server<R> {
    let log = log.clone();
    let echo = move || Recorder::echo().0.log_to(&log);
    let (builder, address) = (server::<R>().config(patient()), "127.0.0.1:0");
    let Some(World { server, .. }) = world else {
        return builder.tcp(address, framed(LengthDelimited::new), echo).await.unwrap();
    };
    let identity = Identity::from_pem(server.certificate.as_bytes(), server.key.as_bytes()).unwrap();
    let builder = builder.tls(ServerTls::new(identity).unwrap());
    builder.tcp(address, framed(LengthDelimited::new), echo).await.unwrap()
}

/// Connects all clients, and keeps them until the standard input ends.
async fn connect<R: TestRuntime>(clients: usize, address: &str) {
    // Accepting them may take a while, too.
    let builder = || Client::<R>::builder().config(patient()).connect_timeout(secs(300));
    let Ok(roots) = env::var(ROOTS) else {
        let one =
            async || builder().tcp_connection(address, Framed::new(LengthDelimited::new())).await.unwrap();
        return hold_all(clients, one).await;
    };
    let tls = ClientTls::builder().roots_pem(roots).server_name("localhost").build().unwrap();
    let one = async || {
        let builder = builder().tls(tls.clone());
        builder.tcp_connection(address, Framed::new(LengthDelimited::new())).await.unwrap()
    };
    hold_all(clients, one).await;
}

async fn hold_all<R: TestRuntime, P>(clients: usize, one: impl AsyncFn() -> Connection<R, R::TcpStream, P>)
where
    P: Protocol<Messages = Messages>,
{
    let served = join_all((0..clients).map(|number| {
        let connecting = one();
        async move {
            let mut connection = connecting.await;
            let message = Bytes::copy_from_slice(&number.to_be_bytes());
            connection.opened().await.unwrap();
            connection.send(message.clone()).await.unwrap();
            assert_eq!(connection.recv().await.unwrap(), Some(message));
            connection
        }
    }));
    let served = served.await;
    blocking(|| std::io::stdin().read_to_end(&mut Vec::new()).unwrap()).await;
    join_all(served.into_iter().map(async |mut connection| {
        connection.close(Close::graceful()).await;
    }))
    .await;
}
