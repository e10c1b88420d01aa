//! RPC and types: services that are not `Send`, handles in spawned tasks, and many methods.

use std::cell::RefCell;
use std::rc::Rc;

use getty_driver::rpc::{self, Caller, Raw, Receiver, Sender, Services, Status};

use crate::basics::{Running, connected};
use crate::driver_common::runtimes::{TestRuntime, in_time, until};
use crate::driver_common::secs;
use crate::{on_every_runtime, on_one_runtime};

on_every_runtime!(handles_live_in_spawned_tasks);

on_one_runtime!(many_methods);

#[test]
fn a_service_may_be_local() {
    type R = getty_tokio::Tokio;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let names = Rc::<RefCell<Vec<String>>>::default();
        let kept = names.clone();
        let services = Services::new()
            .method("t.T/Add", Raw, move |_, name: String| {
                let names = kept.clone();
                async move {
                    names.borrow_mut().push(name);
                    Ok::<_, Status>(names.borrow().len().to_string())
                }
            })
            .server_streaming("t.T/All", Raw, {
                let names = names.clone();
                move |_, (): (), mut out: Sender<String>| {
                    let names = names.clone();
                    async move {
                        let all = names.borrow().clone();
                        for name in all {
                            out.send(name).await?;
                        }
                        Ok::<_, Status>(())
                    }
                }
            });
        let server = getty_tokio::Server::builder()
            .spawner(getty_tokio::LocalSpawner)
            .tcp("127.0.0.1:0", rpc::frames, move || services.listener())
            .await
            .unwrap();
        let (peer, caller) = rpc::peer(Services::new());
        getty_tokio::Client::builder()
            .spawner(getty_tokio::LocalSpawner)
            .tcp(&server.local_addr().to_string(), rpc::frames(), peer)
            .await
            .unwrap();
        in_time::<R, _>(async {
            for (name, count) in [("Ann", "1"), ("Ben", "2")] {
                assert_eq!(caller.call::<_, _, String>("t.T/Add", Raw, name).await.unwrap(), count);
            }
            let mut all: Receiver<String> = caller.server_streaming("t.T/All", Raw, &()).await.unwrap();
            for name in ["Ann", "Ben"] {
                assert_eq!(all.recv().await.unwrap().as_deref(), Some(name));
            }
            assert_eq!(all.recv().await.unwrap(), None);
        })
        .await;
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
    });
}

/// Uses every kind of handle, and holds it across waits.
async fn use_all(caller: Caller, running: Running) {
    let _guard = running.enter();
    assert_eq!(caller.call::<_, _, String>("t.T/Echo", Raw, "x").await.unwrap(), "x");
    let (mut sender, mut items) = caller.bidi_streaming("t.T/Talk", Raw).await.unwrap();
    for number in 0..10 {
        sender.send(number.to_string()).await.unwrap();
        assert_eq!(items.recv().await.unwrap(), Some(number.to_string()));
    }
    let (mut other, answer) = caller.client_streaming::<_, String, String>("t.T/Last", Raw).await.unwrap();
    other.send("last".to_owned()).await.unwrap();
    other.finish();
    assert_eq!(answer.await.unwrap(), "last");
    drop(sender);
    assert_eq!(items.recv().await.unwrap(), None::<String>);
}

fn handles_live_in_spawned_tasks<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = Services::new()
            .method("t.T/Echo", Raw, |_, text: String| async move { Ok::<_, Status>(text) })
            .bidi_streaming(
                "t.T/Talk",
                Raw,
                |_, mut items: Receiver<String>, mut out: Sender<String>| async move {
                    while let Some(item) = items.recv().await? {
                        out.send(item).await?;
                    }
                    Ok::<_, Status>(())
                },
            )
            .client_streaming("t.T/Last", Raw, |_, mut items: Receiver<String>| async move {
                let mut last = String::new();
                while let Some(item) = items.recv().await? {
                    last = item;
                }
                Ok::<_, Status>(last)
            });
        let (server, caller) = connected!(R, services);
        let running = Running::default();
        for _ in 0..20 {
            R::spawn(use_all(caller.clone(), running.clone()));
        }
        drop(caller);
        until::<R>("all tasks have ended", || running.count() == 0 && server.sessions() == 0).await;
    }));
}

/// Adds methods of these names.
macro_rules! with_methods {
    ($services:expr, $prefix:literal, $($name:literal)*) => {
        $services $(.method(concat!("t.", $prefix, "/", $name), Raw, |_, text: String| async move {
            Ok::<_, Status>(text + $name)
        }))*
    };
}

fn many_methods<R: TestRuntime>() {
    R::block_on(in_time::<R, _>(async {
        let services = Services::new();
        let services =
            with_methods!(services, "A", "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "a" "b" "c" "d" "e" "f");
        let services =
            with_methods!(services, "B", "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "a" "b" "c" "d" "e" "f");
        let (_server, caller) = connected!(R, services);
        for method in ["t.A/0", "t.A/f", "t.B/0", "t.B/f"] {
            let answer = caller.call::<_, _, String>(method, Raw, "x").await.unwrap();
            assert_eq!(answer, format!("x{}", &method[4..]));
        }
    }));
}
