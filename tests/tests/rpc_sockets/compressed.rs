//! Compressed bodies over sockets. The other end is often written by hand, with flate2 itself.

use std::future::IntoFuture;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use getty_driver::Server;
use getty_driver::rpc::{
    self, Call, Caller, Code, Compressed, Config, Executed, Raw, Receiver, Sender, Services, Status,
};
use getty_tokio::Tokio;
use testkit::rpc_bytes::{self, COMPRESSED, ERROR, Heard, ITEM, MORE, REPLY, REQUEST, frame, request_head};

use crate::basics::Running;
use crate::driver_common::runtimes::{TestRuntime, client, in_time, server, until};
use crate::on_every_runtime;

/// The flag of an error: no handler has begun with the call.
const NOT_EXECUTED: u8 = 4;

on_every_runtime!(all_four_shapes_in_both_directions, other_sessions_of_the_thread_go_on,);

fn deflate() -> Arc<Config> {
    Config::builder().deflate(true).build().unwrap()
}

/// Text that gets smaller, and repeats farther than DEFLATE looks back.
fn text(size: usize) -> String {
    let words = (0_u32..).map(|n| format!("{} ", n.wrapping_mul(2_654_435_761) % 997));
    let mut base = String::new();
    words
        .take_while(|word| {
            base.push_str(word);
            base.len() < size.min(64 * 1024)
        })
        .for_each(drop);
    let mut text = base.repeat(size / base.len() + 1);
    text.truncate(size);
    text
}

fn deflated(text: &str) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(vec![1], Compression::new(6));
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// What a frame says, which is compressed or not.
#[track_caller]
fn said(heard: &Heard, is_compressed: bool) -> String {
    assert_eq!(heard.flags & COMPRESSED != 0, is_compressed, "{} bytes", heard.body.len());
    let mut text = String::new();
    if is_compressed {
        assert_eq!(heard.body[0], 1, "the algorithm");
        let mut decoder = DeflateDecoder::new(&heard.body[1..]);
        decoder.read_to_string(&mut text).unwrap();
        assert_eq!(decoder.total_in(), heard.body.len() as u64 - 1);
    } else {
        (&heard.body[..]).read_to_string(&mut text).unwrap();
    }
    text
}

/// Services of all shapes, which compress what they send.
macro_rules! shapes {
    () => {
        Services::new()
            .method("t.T/Echo", Raw, |_call, text: String| async move { Ok::<_, Status>(text) })
            .server_streaming("t.T/Repeat", Raw, |_call, text: String, mut out: Sender<String>| async move {
                for number in 0..10 {
                    out.send(format!("{number} {text}")).await?;
                }
                Ok::<_, Status>(())
            })
            .client_streaming("t.T/Join", Raw, |_call, mut texts: Receiver<String>| async move {
                let mut all = String::new();
                while let Some(text) = texts.recv().await? {
                    all.push_str(&text);
                }
                Ok::<_, Status>(all)
            })
            .bidi_streaming("t.T/Upper", Raw, |_call, mut texts: Receiver<String>, mut out| async move {
                while let Some(text) = texts.recv().await? {
                    out.send(text.to_uppercase()).await?;
                }
                Ok::<_, Status>(())
            })
            .config(deflate())
            .layer(Compressed::new())
    };
}

/// Calls all shapes.
async fn call_all(caller: &Caller) -> Result<(), Status> {
    for size in [0, 1000, 5000, 300_000] {
        let text = text(size.max(1));
        assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, &text).await?, text);
        let mut items: Receiver<String> = caller.server_streaming("t.T/Repeat", Raw, &text).await?;
        for number in 0..10 {
            assert_eq!(items.recv().await?, Some(format!("{number} {text}")));
        }
        assert_eq!(items.recv().await?, None);
        let (mut sender, joined) = caller.client_streaming::<_, String, String>("t.T/Join", Raw).await?;
        for number in 0..10 {
            sender.send(format!("{number} {text}")).await?;
        }
        drop(sender);
        let all: String = (0..10).map(|number| format!("{number} {text}")).collect();
        assert_eq!(joined.await?, all);
        let (mut sender, mut lines) = caller.bidi_streaming::<_, String, String>("t.T/Upper", Raw).await?;
        for number in 0..10 {
            let line = format!("line {number} {text}");
            sender.send(line.clone()).await?;
            assert_eq!(lines.recv().await?, Some(line.to_uppercase()));
        }
        drop(sender);
        assert_eq!(lines.recv().await?, None);
    }
    Ok(())
}

fn all_four_shapes_in_both_directions<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = shapes!().method("t.T/Back", Raw, |call: Call, (): ()| async move {
            call_all(&call.peer().send_compressed(true)).await
        });
        let server =
            server::<R>().tcp("127.0.0.1:0", rpc::frames, move || services.listener()).await.unwrap();
        let (peer, caller) = rpc::peer(shapes!());
        client::<R>().tcp(&server.local_addr().to_string(), rpc::frames(), peer).await.unwrap();
        let caller = caller.send_compressed(true);
        call_all(&caller).await.unwrap();
        caller.call::<_, _, ()>("t.T/Back", Raw, &()).await.unwrap();
        call_all(&caller.send_compressed(false)).await.unwrap();
    }));
}

/// Two sessions compress and decompress a large body in one task, and calls of two others go on beside it.
fn other_sessions_of_the_thread_go_on<R: TestRuntime>() {
    const SIZE: usize = 2 << 20;
    R::block_on(in_time::<R, _>(async {
        let (caller, driving) = rpc::in_memory_with::<R>(shapes!(), Services::new().config(deflate()));
        let (other, driving_other) = rpc::in_memory::<R>(shapes!());
        let caller = caller.send_compressed(true);
        let text = text(SIZE);
        let mut answered = 0;
        let large = async {
            assert!(caller.call::<_, _, String>("t.T/Echo", Raw, &text).await.unwrap() == text);
        };
        let beside = async {
            loop {
                assert_eq!(other.call::<_, _, String>("t.T/Echo", Raw, "small").await.unwrap(), "small");
                answered += 1;
            }
        };
        // All in one task: a turn of each for one of the others.
        let driving = futures::future::join(Box::pin(driving), Box::pin(driving_other));
        let all = futures::future::join(beside, driving);
        futures::future::select(std::pin::pin!(large), std::pin::pin!(all)).await;
        assert!(answered >= SIZE / (64 * 1024), "{answered} calls were answered");
    }));
}

/// Serves services, and opens a connection by hand.
macro_rules! by_hand {
    ($services:expr, $opening:expr) => {{
        let services = $services;
        let server: Server<Tokio> =
            server().tcp("127.0.0.1:0", rpc::frames, move || services.listener()).await.unwrap();
        let mut stream = TcpStream::connect(server.local_addr()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(&$opening).unwrap();
        rpc_bytes::read_preface(&mut stream).unwrap();
        let hello = Heard::read(&mut stream).unwrap();
        (server, stream, hello)
    }};
}

/// Reads the frames of a call up to its end.
fn hear(stream: &mut TcpStream) -> Vec<Heard> {
    let mut all = Vec::new();
    while all.last().is_none_or(|last: &Heard| last.kind != REPLY && last.kind != ERROR) {
        all.extend(Some(Heard::read(stream).unwrap()).filter(|heard| heard.kind != 7));
    }
    all
}

#[test]
fn a_server_compresses_what_its_caller_takes() {
    Tokio::run(async {
        for takes in [true, false] {
            let opening = if takes { rpc_bytes::opening_with_deflate() } else { rpc_bytes::opening() };
            let (_server, mut stream, hello) = by_hand!(shapes!(), opening);
            assert!(
                hello.head.windows(2).any(|field| field == b"\x20\x01" || field == b"\x22\x01"),
                "{hello:?}"
            );
            let text = text(5000); // ten of them are within the window
            // Compressed requests are taken all the same.
            for (flags, body) in [(0, text.clone().into_bytes()), (COMPRESSED, deflated(&text))] {
                stream.write_all(&frame(REQUEST, flags, 3, &request_head("t.T/Echo", "raw"), &body)).unwrap();
                let [reply] = &hear(&mut stream)[..] else { panic!("not one frame") };
                assert_eq!((reply.kind, said(reply, takes)), (REPLY, text.clone()));
                stream
                    .write_all(&frame(REQUEST, flags, 3, &request_head("t.T/Repeat", "raw"), &body))
                    .unwrap();
                let frames = hear(&mut stream);
                for (number, item) in frames[..10].iter().enumerate() {
                    assert_eq!((item.kind, said(item, takes)), (ITEM, format!("{number} {text}")));
                }
                assert_eq!((frames[10].kind, frames.len()), (REPLY, 11));
            }
            let small = "s".repeat(1023);
            stream.write_all(&rpc_bytes::request(3, "t.T/Echo", small.as_bytes())).unwrap();
            assert_eq!(said(&hear(&mut stream)[0], false), small);
        }
    });
}

#[test]
fn a_layer_compresses_the_methods_that_it_is_for() {
    Tokio::run(async {
        let echo = |_call: Call, text: String| async move { Ok::<_, Status>(text) };
        let services = Services::new()
            .method("t.T/Public", Raw, echo)
            .method("t.T/Secret", Raw, echo)
            .layer(Compressed::new().of("t.T/Public"));
        let (_server, mut stream, hello) = by_hand!(services, rpc_bytes::opening_with_deflate());
        assert!(
            !hello.head.windows(2).any(|field| field == b"\x20\x01" || field == b"\x22\x01"),
            "{hello:?}"
        );
        let text = text(5000);
        for (method, is_compressed) in [("t.T/Public", true), ("t.T/Secret", false)] {
            stream.write_all(&rpc_bytes::request(3, method, text.as_bytes())).unwrap();
            assert_eq!(said(&hear(&mut stream)[0], is_compressed), text);
        }
        // It has not said that it takes compressed requests.
        let body = deflated(&text);
        stream.write_all(&frame(REQUEST, COMPRESSED, 3, &request_head("t.T/Public", "raw"), &body)).unwrap();
        let [error] = &hear(&mut stream)[..] else { panic!("not one frame") };
        assert_eq!((error.kind, error.flags), (ERROR, NOT_EXECUTED));
    });
}

#[test]
fn broken_and_exploding_requests_end_alone() {
    Tokio::run(async {
        let (_server, mut stream, _) = by_hand!(shapes!(), rpc_bytes::opening_with_deflate());
        let bomb = deflated(&"0".repeat(10 << 20));
        assert!(bomb.len() < 11_000);
        let text = text(5000);
        let cut = deflated(&text)[..100].to_vec();
        for (body, code) in [(bomb, 8), (cut, 13), (vec![1, 0xff], 13), (vec![2, 3, 0], 12)] {
            stream
                .write_all(&frame(REQUEST, COMPRESSED, 3, &request_head("t.T/Echo", "raw"), &body))
                .unwrap();
            stream.write_all(&rpc_bytes::request(5, "t.T/Echo", b"beside it")).unwrap();
            let mut both = [Heard::read(&mut stream).unwrap(), Heard::read(&mut stream).unwrap()];
            both.sort_by_key(|heard| heard.id);
            let [error, reply] = both;
            assert_eq!((error.kind, error.id, error.flags), (ERROR, 3, NOT_EXECUTED));
            assert!(error.head.starts_with(&[0x08, code]), "{error:?}");
            assert_eq!((reply.kind, reply.id, &reply.body[..]), (REPLY, 5, &b"beside it"[..]));
            // An item.
            stream.write_all(&frame(REQUEST, MORE, 3, &request_head("t.T/Join", "raw"), b"")).unwrap();
            stream.write_all(&frame(ITEM, COMPRESSED, 3, b"", &body)).unwrap();
            let [error] = &hear(&mut stream)[..] else { panic!("not one frame") };
            assert!(error.kind == ERROR && error.head.starts_with(&[0x08, code]), "{error:?}");
        }
    });
}

/// A server by hand: what it hears first, and a connection to it.
async fn to_hand(opening: Vec<u8>) -> (Caller, TcpStream, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (peer, caller) = rpc::peer(Services::new().config(deflate()));
    let address = listener.local_addr().unwrap().to_string();
    client::<Tokio>().tcp(&address, rpc::frames(), peer).await.unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    rpc_bytes::read_preface(&mut stream).unwrap();
    let hello = Heard::read(&mut stream).unwrap();
    stream.write_all(&opening).unwrap();
    // The caller knows what this end takes once a call was answered.
    let call = caller.call::<_, _, String>("t.T/First", Raw, "first").into_future();
    let first = Heard::read(&mut stream).unwrap();
    stream.write_all(&frame(REPLY, 0, first.id, b"", b"first")).unwrap();
    assert_eq!(call.await.unwrap(), "first");
    (caller, stream, hello)
}

#[test]
fn a_caller_compresses_what_its_server_takes() {
    Tokio::run(async {
        for takes in [true, false] {
            let opening = if takes { rpc_bytes::opening_with_deflate() } else { rpc_bytes::opening() };
            let (caller, mut stream, hello) = to_hand(opening).await;
            assert!(
                hello.head.windows(2).any(|field| field == b"\x20\x01" || field == b"\x22\x01"),
                "{hello:?}"
            );
            let text = text(30_000);
            let compressing = caller.clone().send_compressed(true);
            for (calling, is_compressed) in [
                (caller.call::<_, _, String>("t.T/Echo", Raw, &text), false),
                (caller.call::<_, _, String>("t.T/Echo", Raw, &text).send_compressed(true), takes),
                (compressing.call::<_, _, String>("t.T/Echo", Raw, &text), takes),
                (compressing.call::<_, _, String>("t.T/Echo", Raw, &text).send_compressed(false), false),
            ] {
                let call = calling.into_future();
                let request = Heard::read(&mut stream).unwrap();
                assert_eq!((request.kind, said(&request, is_compressed)), (REQUEST, text.clone()));
                // Answers may be compressed all the same.
                stream.write_all(&frame(REPLY, COMPRESSED, request.id, b"", &deflated(&text))).unwrap();
                assert!(call.await.unwrap() == text);
            }
            let (mut sender, joined) =
                compressing.client_streaming::<_, String, String>("t.T/Join", Raw).await.unwrap();
            sender.send(text.clone()).await.unwrap();
            drop(sender);
            let request = Heard::read(&mut stream).unwrap();
            assert_eq!((request.kind, request.flags), (REQUEST, MORE));
            let item = Heard::read(&mut stream).unwrap();
            assert_eq!((item.kind, said(&item, takes)), (ITEM, text.clone()));
            stream.write_all(&frame(REPLY, 0, request.id, b"", b"done")).unwrap();
            assert_eq!(joined.await.unwrap(), "done");
        }
    });
}

#[test]
fn broken_and_exploding_answers_end_alone() {
    Tokio::run(async {
        let (caller, mut stream, _) = to_hand(rpc_bytes::opening_with_deflate()).await;
        let bomb = deflated(&"0".repeat(10 << 20));
        let cases = [
            (bomb, Code::ResourceExhausted, "larger than the limit"),
            (deflated(&text(5000))[..100].to_vec(), Code::Internal, "corrupt"),
            (vec![2, 3, 0], Code::Unimplemented, "algorithm 2"),
        ];
        for (body, code, word) in cases {
            let call = caller.call::<_, _, String>("t.T/Echo", Raw, "x").into_future();
            let request = Heard::read(&mut stream).unwrap();
            stream.write_all(&frame(REPLY, COMPRESSED, request.id, b"", &body)).unwrap();
            let status = call.await.unwrap_err();
            assert_eq!((status.code(), status.executed()), (code, Executed::Yes), "{status}");
            assert!(status.message().contains(word), "{status}");

            let mut items: Receiver<String> = caller.server_streaming("t.T/Repeat", Raw, "x").await.unwrap();
            let request = Heard::read(&mut stream).unwrap();
            stream.write_all(&frame(ITEM, 0, request.id, b"", b"first")).unwrap();
            stream.write_all(&frame(ITEM, COMPRESSED, request.id, b"", &body)).unwrap();
            assert_eq!(items.recv().await.unwrap(), Some("first".to_owned()));
            let status = items.recv().await.unwrap_err();
            assert_eq!((status.code(), status.executed()), (code, Executed::Maybe), "{status}");
            let mut cancel = Heard::read(&mut stream).unwrap();
            while cancel.kind == 7 {
                cancel = Heard::read(&mut stream).unwrap();
            }
            assert_eq!((cancel.kind, cancel.id), (4, request.id));
            stream.write_all(&frame(ERROR, 0, request.id, b"\x08\x01", b"")).unwrap();
        }
    });
}

/// The answer that has come is decompressed before the session closes, though the server has gone.
#[test]
fn an_answer_is_read_to_its_end_after_the_server_has_gone() {
    Tokio::run(async {
        let (caller, mut stream, _) = to_hand(rpc_bytes::opening_with_deflate()).await;
        let text = text(7 << 20);
        let call = caller.call::<_, _, String>("t.T/Echo", Raw, "x").into_future();
        let request = Heard::read(&mut stream).unwrap();
        stream.write_all(&frame(REPLY, COMPRESSED, request.id, b"", &deflated(&text))).unwrap();
        drop(stream);
        assert!(call.await.unwrap() == text);
        caller.closed().await;
    });
}

/// Calls that are given up while bodies of theirs are at work leave the connection as it was.
#[test]
fn calls_that_are_given_up_in_the_middle_leave_nothing() {
    Tokio::run(async {
        let running = Running::default();
        let entered = running.clone();
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = begun.clone();
        let services = shapes!().method("t.T/Large", Raw, move |_call, text: String| {
            let guard = entered.enter();
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                let _guard = guard;
                Ok::<_, Status>(text)
            }
        });
        let server =
            server::<Tokio>().tcp("127.0.0.1:0", rpc::frames, move || services.listener()).await.unwrap();
        let (peer, caller) = rpc::peer(Services::new().config(deflate()));
        client::<Tokio>().tcp(&server.local_addr().to_string(), rpc::frames(), peer).await.unwrap();
        let caller = caller.send_compressed(true);
        let text = text(2 << 20);
        assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, "x").await.unwrap(), "x");
        for n in 0..20 {
            let call = caller.call::<_, _, String>("t.T/Large", Raw, &text).into_future();
            if n % 2 == 0 {
                // While the request is compressed, or what comes after it.
                assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, "x").await.unwrap(), "x");
            } else {
                let seen = begun.load(Ordering::SeqCst);
                until::<Tokio>("the handler has begun", || begun.load(Ordering::SeqCst) > seen).await;
            }
            drop(call);
        }
        let late =
            caller.call::<_, _, String>("t.T/Large", Raw, &text).timeout(Duration::from_millis(1)).await;
        assert_eq!(late.unwrap_err().code(), Code::DeadlineExceeded);
        assert!(caller.call::<_, _, String>("t.T/Large", Raw, &text).await.unwrap() == text);
        until::<Tokio>("all handlers have ended", || running.count() == 0).await;
        let (mut sender, _lines) =
            caller.bidi_streaming::<_, String, String>("t.T/Upper", Raw).await.unwrap();
        sender.send(text[..900_000].to_owned()).await.unwrap();
        drop((sender, _lines));
        assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, "x").await.unwrap(), "x");
        server.shutdown(Duration::from_secs(30)).await;
        caller.closed().await;
    });
}
