//! Peers that do not speak RPC, or say nothing: what each side says about it.

use std::future::IntoFuture;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task;
use std::time::{Duration, Instant};

use getty_core::rpc::Frame;
use getty_core::{CloseReason, Items, Opened};
use getty_driver::rpc::{self, Caller, Code, Config, Executed, Raw, Services, Status};
use getty_driver::{Context, Listener, Refuse};

use crate::driver_common::runtimes::{TestRuntime, blocking, client, server, until};
use crate::erased::erased_each;
use crate::tls_common::World;
use crate::tls_ends::{client_tls, server_tls};
use crate::{on_every_runtime, on_one_runtime};

on_every_runtime!(a_silent_client_is_timed_out, a_silent_server_is_timed_out);

on_one_runtime!(
    a_server_says_what_its_client_speaks,
    a_client_says_what_its_server_speaks,
    only_one_side_speaks_tls,
    a_server_that_hangs_up_is_no_answer,
    calls_within_http_are_not_looked_at,
);

/// The beginnings of other protocols, and what is said about them.
fn strangers() -> [(Vec<u8>, &'static str); 8] {
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), "the peer speaks HTTP"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec(), "the peer speaks HTTP"),
        (b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03".to_vec(), "the peer speaks TLS"),
        (b"\x15\x03\x03\x00\x02\x02\x32".to_vec(), "the peer speaks TLS"),
        (b"{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"id\":1}\n".to_vec(), "the peer speaks JSON"),
        ([&b"\x05\x09\x16\x20"[..], &[0; 28]].concat(), "the peer speaks the RPC of Go getty"),
        (b"\x00\x00\x00\x05hello".to_vec(), "byte 0 from the peer is 00"),
        (b"\xfa\x67\x74\x78".to_vec(), "byte 3 from the peer is 78"),
    ]
}

/// Notes the ends of sessions.
struct Ends<L>(L, Arc<Mutex<Vec<String>>>);

impl<L: Listener<Items<Frame>>> Listener<Items<Frame>> for Ends<L> {
    fn on_open(&mut self, cx: &mut Context<'_, Items<Frame>>, opened: &Opened) -> Result<(), Refuse> {
        self.0.on_open(cx, opened)
    }

    fn on_message(&mut self, cx: &mut Context<'_, Items<Frame>>, frame: Frame) {
        self.0.on_message(cx, frame);
    }

    fn on_turn(
        &mut self,
        cx: &mut Context<'_, Items<Frame>>,
        task: &mut task::Context<'_>,
    ) -> Option<Instant> {
        self.0.on_turn(cx, task)
    }

    fn on_close(&mut self, cx: &mut Context<'_, Items<Frame>>, reason: &CloseReason) {
        self.0.on_close(cx, reason);
        self.1.lock().unwrap().push(reason.to_string());
    }
}

/// Serves a method that counts its calls. Gives the server, the ends of its sessions, and the count.
macro_rules! counting {
    ($runtime:ty, $config:expr) => {{
        let (ends, calls) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (log, count) = (ends.clone(), calls.clone());
        let services = Services::new().config($config).method("t.T/Count", Raw, move |_call, (): ()| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, Status>(()) }
        });
        let listeners = erased_each(move || Ends(services.listener(), log.clone()));
        let server = server::<$runtime>().tcp("127.0.0.1:0", rpc::frames, listeners).await.unwrap();
        (server, ends, calls)
    }};
}

/// Sends `bytes` and reads what comes until the server closes.
async fn exchange(address: SocketAddr, bytes: Vec<u8>) -> Vec<u8> {
    blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer); // a reset is an end too
        answer
    })
    .await
}

/// The end of the only session since the last time.
async fn end<R: TestRuntime>(ends: &Mutex<Vec<String>>) -> String {
    until::<R>("the session has ended", || !ends.lock().unwrap().is_empty()).await;
    ends.lock().unwrap().pop().unwrap()
}

fn a_server_says_what_its_client_speaks<R: TestRuntime>() {
    R::block_on(async {
        let (server, ends, calls) = counting!(R, Arc::default());
        for (bytes, text) in strangers() {
            assert_eq!(exchange(server.local_addr(), bytes).await, b"", "it must not answer: {text}");
            let reason = end::<R>(&ends).await;
            assert!(reason.contains("getty rpc 2") && reason.contains(text), "{reason}: not {text}");
        }
        assert_eq!(calls.load(Ordering::SeqCst), 0);
    });
}

/// A server that says `bytes` once a client has spoken, and waits until it hangs up.
fn stranger(bytes: Vec<u8>, clients: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for _ in 0..clients {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(&bytes);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    address
}

async fn connect<R: TestRuntime>(address: SocketAddr, config: Arc<Config>) -> Caller {
    let (peer, caller) = rpc::peer(Services::new().config(config));
    client::<R>().tcp(&address.to_string(), rpc::frames(), peer).await.unwrap();
    caller
}

/// Checks that a call, and all later ones, end with a reason that has `text`.
async fn assert_fails(caller: &Caller, text: &str) {
    let status = caller.call::<_, _, ()>("t.T/Count", Raw, &()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_ne!(status.executed(), Executed::Yes, "{status}");
    assert!(status.message().contains(text), "{status}: not {text}");
    let end = caller.closed().await;
    assert!(end.message().contains(text), "{end}: not {text}");
    let late = caller.call::<_, _, ()>("t.T/Count", Raw, &()).await.unwrap_err();
    assert_eq!((late.code(), late.executed()), (Code::Unavailable, Executed::No));
    assert!(late.message().contains(text), "{late}: not {text}");
}

fn a_client_says_what_its_server_speaks<R: TestRuntime>() {
    R::block_on(async {
        for (bytes, text) in strangers() {
            let caller = connect::<R>(stranger(bytes, 1), Arc::default()).await;
            assert_fails(&caller, text).await;
        }
    });
}

fn only_one_side_speaks_tls<R: TestRuntime>() {
    // On the heap: without optimisation, certificates are checked deep in the stack.
    R::block_on(Box::pin(async {
        let world = World::new();
        let services = Services::new();
        let builder = server::<R>().tls(server_tls(&world));
        let secure =
            builder.tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener())).await.unwrap();
        let caller = connect::<R>(secure.local_addr(), Arc::default()).await;
        assert_fails(&caller, "the peer speaks TLS").await;

        let (plain, ends, _) = counting!(R, Arc::default());
        let (peer, caller) = rpc::peer(Services::new());
        let address = plain.local_addr().to_string();
        client::<R>().tls(client_tls(&world)).tcp(&address, rpc::frames(), peer).await.unwrap();
        assert_fails(&caller, "TLS").await;
        let reason = end::<R>(&ends).await;
        assert!(reason.contains("the peer speaks TLS"), "{reason}");
    }));
}

const SILENT: &str = "the peer's first frame did not come in time";

/// Gives a peer little time for its first word.
fn impatient() -> Arc<Config> {
    Config::builder().hello_timeout(Duration::from_millis(50)).build().unwrap()
}

fn a_silent_client_is_timed_out<R: TestRuntime>() {
    R::block_on(async {
        let (server, ends, _) = counting!(R, impatient());
        for beginning in [&b""[..], b"\xfa", b"\xfa\x67\x74\x79\x02\x00\x00\x00", b"\x16", b"\x05\x09"] {
            let answer = exchange(server.local_addr(), beginning.to_vec()).await;
            assert!(answer.starts_with(b"\xfa\x67\x74\x79\x02"), "it says why in its own words: {answer:x?}");
            let reason = end::<R>(&ends).await;
            assert!(reason.contains(SILENT), "{reason}");
        }
    });
}

fn a_silent_server_is_timed_out<R: TestRuntime>() {
    R::block_on(async {
        let caller = connect::<R>(stranger(Vec::new(), 1), impatient()).await;
        assert_fails(&caller, SILENT).await;
    });
}

/// What a server does that wants TLS first, or has reached a limit.
fn a_server_that_hangs_up_is_no_answer<R: TestRuntime>() {
    R::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let hanging_up = std::thread::spawn(move || drop(listener.accept().unwrap()));
        let caller = connect::<R>(address, Arc::default()).await;
        let status = caller.call::<_, _, ()>("t.T/Count", Raw, &()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert_ne!(status.executed(), Executed::Yes, "{status}");
        assert!(status.message().starts_with("the connection ended: "), "{status}");
        hanging_up.join().unwrap();
    });
}

/// What a client sends to call the method.
async fn recorded<R: TestRuntime>() -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let recording = blocking(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut seen, mut buffer) = (Vec::new(), [0; 1024]);
        while !seen.windows(9).any(|window| window == b"t.T/Count") {
            let read = stream.read(&mut buffer).unwrap();
            seen.extend_from_slice(&buffer[..read]);
        }
        seen
    });
    let caller = connect::<R>(address, Arc::default()).await;
    let _call = caller.call::<_, _, ()>("t.T/Count", Raw, &()).into_future();
    recording.await
}

/// A page may post any bytes to any address: those of a call, too.
fn calls_within_http_are_not_looked_at<R: TestRuntime>() {
    R::block_on(async {
        let (server, ends, calls) = counting!(R, Arc::default());
        let call = recorded::<R>().await;
        let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", call.len());
        let posted = [post.as_bytes(), &call[..]].concat();
        assert_eq!(exchange(server.local_addr(), posted).await, b"");
        assert!(end::<R>(&ends).await.contains("the peer speaks HTTP"));
        assert_eq!(calls.load(Ordering::SeqCst), 0);

        let stream = blocking(move || {
            let mut stream = TcpStream::connect(server.local_addr()).unwrap();
            stream.write_all(&call).unwrap();
            (stream, server)
        });
        let _kept = stream.await;
        until::<R>("the same bytes alone are a call", || calls.load(Ordering::SeqCst) == 1).await;
    });
}
