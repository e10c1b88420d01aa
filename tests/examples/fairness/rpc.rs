//! RPC: the server, the innocent client, and the others, which are hostile.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use getty_driver::rpc::{self, Raw, Services, Status};
use testkit::rpc_bytes::{Heard, REPLY, broken_request, cancel, opening, read_preface, request};

/// The argument for a process that serves; the runtime follows, and the number of threads.
pub const SERVE: &str = "--serve-rpc";

const ECHO: &str = "test.Echo/Echo";
const WAIT: &str = "test.Echo/Wait";

/// Makes the command that serves.
pub fn server(runtime: &str, threads: u16) -> io::Result<Command> {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(std::env::current_exe()?).args([SERVE, runtime, &threads.to_string()]);
    if threads > 0 {
        command.env("SMOL_THREADS", threads.to_string());
        command.env("ASYNC_STD_THREAD_COUNT", threads.to_string());
    }
    Ok(command)
}

/// Serves, until the process is killed. Smol and async-std have the number of their threads from the
/// environment.
pub fn serve(runtime: &str, threads: usize) {
    let services = Services::new()
        .method(ECHO, Raw, |_, text: bytes::Bytes| async { Ok::<_, Status>(text) })
        .method(WAIT, Raw, |_, _: bytes::Bytes| std::future::pending::<Result<(), Status>>());
    let listener = move || services.listener();
    macro_rules! serve {
        ($adapter:ident) => {
            async {
                let server = $adapter::Server::builder().tcp("127.0.0.1:0", rpc::frames, listener).await;
                let server = server.expect("a free port");
                println!("listening {}", server.local_addr());
                server.ended().await;
            }
        };
    }
    match runtime {
        "smol" => smol::block_on(serve!(getty_smol)),
        "async-std" => async_std::task::block_on(serve!(getty_async_std)),
        _ => {
            let mut builder = match threads {
                1 => tokio::runtime::Builder::new_current_thread(),
                _ => tokio::runtime::Builder::new_multi_thread(),
            };
            if threads > 0 {
                builder.worker_threads(threads);
            }
            builder.enable_all().build().expect("a runtime").block_on(serve!(getty_tokio));
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(&opening())?;
    Ok(stream)
}

/// Connects the innocent client. Returns its call, which waits for the answer.
pub fn innocent(address: SocketAddr) -> io::Result<impl FnMut() -> io::Result<()>> {
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    read_preface(&mut stream)?;
    let call = request(3, ECHO, b"0123456789abcdef");
    Ok(move || {
        stream.write_all(&call)?;
        while Heard::read(&mut stream)?.kind != REPLY {}
        Ok(())
    })
}

/// The bytes of calls that are cancelled at once.
pub fn cancels() -> Vec<u8> {
    (0..60_000).flat_map(|n| [request(3 + 2 * n, WAIT, b"x"), cancel(3 + 2 * n)]).flatten().collect()
}

/// The bytes of requests that cannot be read.
pub fn broken() -> Vec<u8> {
    (0..60_000).flat_map(|n| broken_request(3 + 2 * n)).collect()
}

/// Sends `flood` until the server ends the connection, and then on another one. Adds the bytes to `sent`.
pub fn flood(
    address: SocketAddr,
    flood: &[u8],
    reads: bool,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let mut stream = connect(address)?;
        let draining = reads.then(|| stream.try_clone().map(super::drain)).transpose()?;
        for piece in flood.chunks(1 << 16).cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
            if stream.write_all(piece).is_err() {
                break;
            }
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        let _ = stream.shutdown(std::net::Shutdown::Both);
        if let Some(draining) = draining {
            let _ = draining.join();
        }
    }
    Ok(())
}
