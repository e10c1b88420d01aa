//! An RPC server and a load generator for comparing this library with others: N callers on one connection,
//! each with one call at a time.
//!
//! ```text
//! rpc_peer server ADDR [json|raw]
//! rpc_peer client ADDR SERVER_PID CALLERS BYTES SECONDS [json|raw]
//! ```
//! The server prints `listening ADDR`, the client one line of JSON. The codec is Protobuf unless another is
//! named. `RT=ct` asks for a runtime of one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use getty_driver::rpc::{self, Caller, Decode, Encode, Json, Protobuf, Raw, Services, Status};
use getty_tokio::{Client, Server};

/// The message of Protobuf.
#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut runtime = match std::env::var("RT").as_deref() {
        Ok("ct") => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().build().expect("a runtime");
    match args[..] {
        ["server", address] => runtime.block_on(serve(address, "")),
        ["server", address, codec] => runtime.block_on(serve(address, codec)),
        ["client", address, server, callers, bytes, seconds, ref codec @ ..] => {
            let load = Load {
                server: server.parse().expect("the number of a process"),
                callers: callers.parse().expect("a number of callers"),
                bytes: bytes.parse().expect("a number of bytes"),
                time: Duration::from_secs_f64(seconds.parse().expect("a number of seconds")),
            };
            runtime.block_on(call(address, load, codec.first().copied().unwrap_or_default()));
        }
        _ => panic!(
            "usage: rpc_peer server ADDR [CODEC] | client ADDR SERVER_PID CALLERS BYTES SECONDS [CODEC]"
        ),
    }
}

async fn serve(address: &str, codec: &str) {
    let services = Services::new()
        .method("echo.Echo/Echo", Protobuf, |_call, text: Text| async move { Ok::<_, Status>(text) });
    let json = Services::new()
        .method("echo.Echo/Echo", Json, |_call, text: String| async move { Ok::<_, Status>(text) });
    let raw = Services::new()
        .method("echo.Echo/Echo", Raw, |_call, text: String| async move { Ok::<_, Status>(text) });
    let server = match codec {
        "json" => Server::builder().tcp(address, rpc::frames, move || json.listener()).await,
        "raw" => Server::builder().tcp(address, rpc::frames, move || raw.listener()).await,
        _ => Server::builder().tcp(address, rpc::frames, move || services.listener()).await,
    };
    let server = server.expect("an address to listen on");
    println!("listening {}", server.local_addr());
    server.ended().await;
}

/// What the client does.
#[derive(Debug, Clone, Copy)]
struct Load {
    server: u32,
    callers: usize,
    bytes: usize,
    time: Duration,
}

async fn call(address: &str, load: Load, codec: &str) {
    let (peer, caller) = rpc::peer(Services::new());
    Client::builder().tcp(address, rpc::frames(), peer).await.expect("a server");
    let text = "x".repeat(load.bytes);
    match codec {
        "json" => drive("getty-json", load, caller, Json, text, String::len).await,
        "raw" => drive("getty-raw", load, caller, Raw, text, String::len).await,
        _ => drive("getty", load, caller, Protobuf, Text { text }, |text| text.text.len()).await,
    }
}

/// Calls for a second, then measures.
async fn drive<C, T>(name: &str, load: Load, caller: Caller, codec: C, value: T, len: fn(&T) -> usize)
where
    C: Encode<T> + Decode<T>,
    T: Clone + Send + Sync + 'static,
{
    let phase = Arc::new(AtomicU8::new(0)); // 0: warm-up, 1: measured
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..load.callers)
        .map(|_| {
            let (caller, codec, value) = (caller.clone(), codec.clone(), value.clone());
            let (phase, stop) = (phase.clone(), stop.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    let value = value.clone();
                    let answer: T =
                        caller.call("echo.Echo/Echo", codec.clone(), &value).await.expect("an answer");
                    let took = begin.elapsed();
                    assert_eq!(len(&answer), load.bytes);
                    if phase.load(Ordering::Relaxed) == 1 {
                        times.push(took);
                    }
                }
                times
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let cpu_before = [load.server, std::process::id()].map(cpu);
    let begin = Instant::now();
    phase.store(1, Ordering::Relaxed);
    tokio::time::sleep(load.time).await;
    phase.store(2, Ordering::Relaxed);
    let wall = begin.elapsed();
    let cpu_after = [load.server, std::process::id()].map(cpu);
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await.expect("the caller has ended"));
    }
    times.sort_unstable();
    let calls = times.len();
    let at = |part: f64| times[(calls as f64 * part) as usize % calls].as_secs_f64() * 1e6;
    let micros = |side: usize| (cpu_after[side] - cpu_before[side]).as_secs_f64() * 1e6 / calls as f64;
    println!(
        "{{\"peer\":\"{name}\",\"conc\":{},\"payload\":{},\"calls\":{calls},\"rate\":{:.0},\"srv_us\":{:.2},\
         \"cli_us\":{:.2},\"p50_us\":{:.1},\"p99_us\":{:.1},\"max_us\":{:.1}}}",
        load.callers,
        load.bytes,
        calls as f64 / wall.as_secs_f64(),
        micros(0),
        micros(1),
        at(0.5),
        at(0.99),
        times[calls - 1].as_secs_f64() * 1e6,
    );
}

/// The CPU time of a process, in ticks of 10 ms.
fn cpu(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok());
    Duration::from_millis(10) * ticks.sum()
}
