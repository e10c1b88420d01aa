//! Streams of RPC over sockets: their order, back-pressure, and halves that are dropped in any order.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use getty_driver::rpc::{self, Call, Code, Config, Executed, Raw, Receiver, Sender, Services, Status};

use crate::basics::{Running, connected};
use crate::driver_common::runtimes::{TestRuntime, client, in_time, server, until};
use crate::erased::{erased, erased_each};
use crate::{on_every_runtime, on_one_runtime};

on_every_runtime!(
    a_sender_learns_that_its_call_was_given_up,
    a_slow_reader_stops_its_writer_alone,
    both_directions_at_once,
    halves_are_dropped_in_any_order,
);

on_one_runtime!(
    items_of_one_turn_come_before_the_answer,
    an_item_too_large_ends_the_call_of_its_sender,
    an_item_too_large_ends_the_call_of_its_handler,
    a_handler_that_stops_reading_does_not_stop_its_caller,
    a_half_that_outlives_its_handler_ends,
    windows_of_any_size_go_together,
    half_duplex,
    nobody_waits_for_the_first_word,
    streams_beyond_the_limit_wait_for_others,
);

const ITEM: usize = 1000;

fn items_of_one_turn_come_before_the_answer<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = Services::new().server_streaming(
            "t.T/Three",
            Raw,
            |_, (): (), mut out: Sender<String>| async move {
                for number in 0..3 {
                    out.send(number.to_string()).await?;
                }
                Err::<(), _>(Status::new(Code::DataLoss, "after the items"))
            },
        );
        let (_server, caller) = connected!(R, services);
        for _ in 0..20 {
            let mut items: Receiver<String> = caller.server_streaming("t.T/Three", Raw, &()).await.unwrap();
            for number in 0..3 {
                assert_eq!(items.recv().await.unwrap(), Some(number.to_string()));
            }
            assert_eq!(items.recv().await.unwrap_err().code(), Code::DataLoss);
            assert_eq!(items.recv().await.unwrap(), None, "there is one end");
        }
    }));
}

/// Services with a method that takes a stream and answers at its end.
macro_rules! sum {
    () => {
        Services::new().client_streaming("t.T/Sum", Raw, |_, mut items: Receiver<Vec<u8>>| async move {
            let mut sum = 0;
            while let Some(item) = items.recv().await? {
                sum += item.len();
            }
            Ok::<_, Status>(sum.to_string())
        })
    };
}

fn an_item_too_large_ends_the_call_of_its_sender<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (_server, caller) = connected!(R, sum!());
        let (mut sender, answer) =
            caller.client_streaming::<_, Vec<u8>, String>("t.T/Sum", Raw).await.unwrap();
        let _ = sender.send(vec![0; 2 << 20]).await;
        let status = answer.await.unwrap_err();
        assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::Maybe));
        assert!(sender.send(vec![0]).await.is_err());
    }));
}

fn an_item_too_large_ends_the_call_of_its_handler<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let running = Running::default();
        let counted = running.clone();
        let services = Services::new().bidi_streaming(
            "t.T/Big",
            Raw,
            move |_, mut items: Receiver<String>, mut out: Sender<Vec<u8>>| {
                let guard = counted.enter();
                async move {
                    let _guard = guard;
                    out.send(vec![0; 2 << 20]).await?;
                    while items.recv().await?.is_some() {}
                    Ok::<_, Status>(())
                }
            },
        );
        let (_server, caller) = connected!(R, services);
        let (_sender, mut items) = caller.bidi_streaming::<_, String, Vec<u8>>("t.T/Big", Raw).await.unwrap();
        assert_eq!(items.recv().await.unwrap_err().code(), Code::ResourceExhausted);
        until::<R>("the handler has ended", || running.count() == 0).await;
    }));
}

/// Services whose methods neither read nor end.
macro_rules! deaf {
    ($running:expr) => {{
        let (one, two): (Running, Running) = ($running, $running);
        Services::new()
            .client_streaming("t.T/Up", Raw, move |_, items: Receiver<Vec<u8>>| {
                let guard = one.enter();
                async move {
                    let _held = (guard, items);
                    std::future::pending::<Result<(), Status>>().await
                }
            })
            .bidi_streaming("t.T/Both", Raw, move |_, items: Receiver<Vec<u8>>, out: Sender<Vec<u8>>| {
                let guard = two.enter();
                async move {
                    let _held = (guard, items, out);
                    std::future::pending::<Result<(), Status>>().await
                }
            })
    }};
}

/// Sends until there is no room, and then until the call is over. Counts what was taken.
async fn send_to_the_end(mut sender: Sender<Vec<u8>>, sent: Arc<AtomicUsize>) {
    while sender.send(vec![0; ITEM]).await.is_ok() {
        sent.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls once, for a future that is not ready.
async fn is_pending(future: impl Future) {
    let mut future = pin!(future);
    poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

fn a_sender_learns_that_its_call_was_given_up<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let running = Running::default();
        let (_server, caller) = connected!(R, deaf!(running.clone()));
        for way in 0..2 {
            let (sender, other): (Sender<Vec<u8>>, Box<dyn std::any::Any + Send>) = if way == 0 {
                let (sender, answer) = caller.client_streaming::<_, _, ()>("t.T/Up", Raw).await.unwrap();
                (sender, Box::new(answer))
            } else {
                let (sender, items) = caller.bidi_streaming::<_, _, Vec<u8>>("t.T/Both", Raw).await.unwrap();
                (sender, Box::new(items))
            };
            let sent = Arc::new(AtomicUsize::new(0));
            let mut sending = pin!(send_to_the_end(sender, sent.clone()));
            // All the room: what the other side lets come, and what waits here.
            let full = 2 * 64 * 1024 / (ITEM + 32);
            let filled = until::<R>("there is no room", || sent.load(Ordering::SeqCst) >= full - 1);
            futures::future::select(sending.as_mut(), pin!(filled)).await;
            is_pending(sending.as_mut()).await;
            assert!(sent.load(Ordering::SeqCst) <= full + 4, "bounded");
            drop(other);
            sending.await;
            until::<R>("the handler is dropped", || running.count() == 0).await;
        }
    }));
}

fn a_handler_that_stops_reading_does_not_stop_its_caller<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let sent = Arc::new(AtomicUsize::new(0));
        let seen = sent.clone();
        let services = Services::new().client_streaming(
            "t.T/First",
            Raw,
            move |call: Call, mut items: Receiver<Vec<u8>>| {
                let seen = seen.clone();
                async move {
                    items.recv().await?;
                    until::<R>("there is no room", || seen.load(Ordering::SeqCst) >= 120).await;
                    for _ in 0..3 {
                        call.peer().call::<_, _, String>("t.T/Echo", Raw, "here").await?;
                    }
                    drop(items);
                    until::<R>("all is sent", || seen.load(Ordering::SeqCst) >= 1000).await;
                    Ok::<_, Status>(())
                }
            },
        );
        let server = server::<R>()
            .tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener()))
            .await
            .unwrap();
        let own = Services::new().method("t.T/Echo", Raw, |_, text: String| async { Ok::<_, Status>(text) });
        let (peer, caller) = rpc::peer(own);
        let peer = erased(peer);
        client::<R>().tcp(&server.local_addr().to_string(), rpc::frames(), peer).await.unwrap();
        let (sender, answer) = caller.client_streaming::<_, _, ()>("t.T/First", Raw).await.unwrap();
        let sending = send_to_the_end(sender, sent);
        let (answer, ()) = futures::future::join(answer, sending).await;
        answer.unwrap();
    }));
}

fn a_half_that_outlives_its_handler_ends<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let running = Running::default();
        let counted = running.clone();
        let services = Services::new().bidi_streaming(
            "t.T/Leave",
            Raw,
            move |_, mut items: Receiver<Vec<u8>>, mut out: Sender<Vec<u8>>| {
                let (one, two) = (counted.enter(), counted.enter());
                R::spawn(async move {
                    let _guard = one;
                    while let Ok(Some(_)) = items.recv().await {}
                });
                R::spawn(async move {
                    let _guard = two;
                    while out.send(vec![0; ITEM]).await.is_ok() {}
                });
                async move { Ok::<_, Status>(()) }
            },
        );
        let (_server, caller) = connected!(R, services);
        let (sender, mut items) =
            caller.bidi_streaming::<_, Vec<u8>, Vec<u8>>("t.T/Leave", Raw).await.unwrap();
        while items.recv().await.unwrap().is_some() {}
        until::<R>("both tasks have ended", || running.count() == 0).await;
        drop(sender);
    }));
}

fn windows_of_any_size_go_together<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        for window in [1 << 14, 1 << 20] {
            let config = Config::builder().window(window).build().unwrap();
            let (_server, caller) = connected!(R, sum!().config(config));
            let (mut sender, answer) =
                caller.client_streaming::<_, Vec<u8>, String>("t.T/Sum", Raw).await.unwrap();
            for _ in 0..3000 {
                sender.send(vec![0; ITEM]).await.unwrap();
            }
            drop(sender);
            assert_eq!(answer.await.unwrap(), (3000 * ITEM).to_string());
        }
    }));
}

fn a_slow_reader_stops_its_writer_alone<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let services = Services::new()
            .method("t.T/Echo", Raw, |_, text: String| async move { Ok::<_, Status>(text) })
            .server_streaming("t.T/All", Raw, move |_, (): (), mut out: Sender<String>| {
                let counted = counted.clone();
                async move {
                    for number in 0..5000 {
                        out.send(format!("{number:01000}")).await?;
                        counted.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok::<_, Status>(())
                }
            });
        let (_server, caller) = connected!(R, services);
        let mut items: Receiver<String> = caller.server_streaming("t.T/All", Raw, &()).await.unwrap();
        until::<R>("the writer fills its room", || sent.load(Ordering::SeqCst) >= 100).await;
        for _ in 0..200 {
            let text = "x".repeat(3000);
            assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, &text).await.unwrap(), text);
        }
        // The window of the reader, and what waits at the writer.
        assert!(sent.load(Ordering::SeqCst) <= 3 * 64 * 1024 / 1000, "memory is bounded");
        for number in 0..5000 {
            assert_eq!(items.recv().await.unwrap(), Some(format!("{number:01000}")));
        }
        assert_eq!(items.recv().await.unwrap(), None);
    }));
}

/// Services with a method that sends back what it gets.
macro_rules! echoes {
    () => {
        Services::new().bidi_streaming(
            "t.T/Echo",
            Raw,
            |_, mut items: Receiver<String>, mut out: Sender<String>| async move {
                while let Some(item) = items.recv().await? {
                    out.send(item).await?;
                }
                Ok::<_, Status>(())
            },
        )
    };
}

fn half_duplex<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let (_server, caller) = connected!(R, echoes!());
        let (mut sender, items) = caller.bidi_streaming::<_, String, String>("t.T/Echo", Raw).await.unwrap();
        for number in 0..50 {
            sender.send(number.to_string()).await.unwrap();
        }
        sender.finish();
        let items: Vec<_> = futures::StreamExt::collect(items).await;
        let items: Result<Vec<String>, Status> = items.into_iter().collect();
        assert_eq!(items.unwrap(), (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
    }));
}

fn nobody_waits_for_the_first_word<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = echoes!().bidi_streaming(
            "t.T/Greet",
            Raw,
            |_, mut items: Receiver<String>, mut out: Sender<String>| async move {
                out.send("hello".to_owned()).await?;
                while items.recv().await?.is_some() {}
                Ok::<_, Status>(())
            },
        );
        let (_server, caller) = connected!(R, services);
        let (mut sender, mut items) = caller.bidi_streaming("t.T/Echo", Raw).await.unwrap();
        sender.send("first".to_owned()).await.unwrap();
        assert_eq!(items.recv().await.unwrap(), Some("first".to_owned()));
        let (sender, mut items) = caller.bidi_streaming::<_, String, String>("t.T/Greet", Raw).await.unwrap();
        assert_eq!(items.recv().await.unwrap(), Some("hello".to_owned()));
        drop(sender);
        assert_eq!(items.recv().await.unwrap(), None);
    }));
}

fn streams_beyond_the_limit_wait_for_others<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let config = Config::builder().max_calls(16).build().unwrap();
        let (_server, caller) = connected!(R, echoes!().config(config));
        let streams = (0..200).map(|_| {
            let caller = caller.clone();
            async move {
                let (mut sender, mut items) = caller.bidi_streaming("t.T/Echo", Raw).await.unwrap();
                for _ in 0..20 {
                    sender.send("x".repeat(5000)).await.unwrap();
                    assert_eq!(items.recv().await.unwrap(), Some("x".repeat(5000)));
                }
                drop(sender);
                assert_eq!(items.recv().await.unwrap(), None);
            }
        });
        futures::future::join_all(streams).await;
    }));
}

fn both_directions_at_once<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        macro_rules! echo {
            () => {
                Services::new().method(
                    "t.T/Echo",
                    Raw,
                    |_, body: Vec<u8>| async move { Ok::<_, Status>(body) },
                )
            };
        }
        let services = echo!().method("t.T/Back", Raw, |call: Call, (): ()| async move {
            let peer = call.peer();
            let calls = (0..300).map(|_| async {
                let body = vec![1; 16 * 1024];
                let answer: Vec<u8> = peer.call("t.T/Echo", Raw, &body).await?;
                assert_eq!(answer.len(), body.len());
                Ok::<_, Status>(())
            });
            futures::future::try_join_all(calls).await?;
            Ok::<_, Status>(())
        });
        let server = server::<R>()
            .tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener()))
            .await
            .unwrap();
        let (peer, caller) = rpc::peer(echo!());
        let peer = erased(peer);
        client::<R>().tcp(&server.local_addr().to_string(), rpc::frames(), peer).await.unwrap();
        let back = caller.call::<_, _, ()>("t.T/Back", Raw, &()).into_future();
        let calls = (0..300).map(|_| async {
            let body = vec![2; 16 * 1024];
            let answer: Vec<u8> = caller.call("t.T/Echo", Raw, &body).await.unwrap();
            assert_eq!(answer.len(), body.len());
        });
        let (back, _) = futures::future::join(back, futures::future::join_all(calls)).await;
        back.unwrap();
    }));
}

fn halves_are_dropped_in_any_order<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let running = Running::default();
        let counted = running.clone();
        // The caller says what the handler drops: its receiver, its sender, both, or nothing.
        let services = Services::new().bidi_streaming(
            "t.T/Drop",
            Raw,
            move |_, mut items: Receiver<String>, mut out: Sender<String>| {
                let guard = counted.enter();
                async move {
                    let _guard = guard;
                    let what = items.recv().await?.unwrap_or_default();
                    match &*what {
                        "receiver" => {
                            drop(items);
                            out.send(what).await?;
                        }
                        "sender" => {
                            drop(out);
                            while items.recv().await?.is_some() {}
                        }
                        "both" => {
                            drop(out);
                            drop(items);
                        }
                        _ => {
                            while let Some(item) = items.recv().await? {
                                out.send(item).await?;
                            }
                        }
                    }
                    Ok::<_, Status>(())
                }
            },
        );
        let (_server, caller) = connected!(R, services);
        for what in ["receiver", "sender", "both", "nothing"] {
            for order in 0..5 {
                let (mut sender, mut items) =
                    caller.bidi_streaming::<_, String, String>("t.T/Drop", Raw).await.unwrap();
                if order > 0 {
                    sender.send(what.to_owned()).await.unwrap();
                }
                match order {
                    0 | 1 => {
                        drop(sender);
                        while items.recv().await.unwrap().is_some() {}
                        assert_eq!(items.recv().await.unwrap(), None);
                    }
                    2 => {
                        drop(items);
                        while sender.send("more".to_owned()).await.is_ok() {}
                    }
                    3 => drop((sender, items)),
                    _ => drop((items, sender)),
                }
                until::<R>("the handler has ended", || running.count() == 0).await;
            }
        }
        let (sender, mut items) = caller.bidi_streaming::<_, String, String>("t.T/Drop", Raw).await.unwrap();
        drop(sender);
        assert_eq!(items.recv().await.unwrap(), None);
    }));
}
