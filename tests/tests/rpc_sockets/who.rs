//! Who calls: the layer of the example `who_calls` in all four shapes, and what handlers know of their
//! connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task;
use std::time::{Duration, Instant};

use getty_core::rpc::Frame;
use getty_core::{CloseReason, Items, Opened};
use getty_driver::rpc::{
    self, Call, Caller, Calling, Code, Dispatch, Executed, Inbound, Layer, Next, Raw, Receiver, Response,
    Sender, Services, Status,
};
use getty_driver::tls::{ClientCertificates, ClientTls, ServerTls};
use getty_driver::{Context, Listener, Refuse, Server};

use crate::driver_common::runtimes::{TestRuntime, client, server, until};
use crate::erased::{erased, erased_each};
use crate::on_one_runtime;
use crate::tls_common::{Signed, World};
use crate::tls_ends::{client_tls, identity};

#[expect(dead_code, reason = "its `main` is for the command line")]
#[path = "../../../adapters/tokio/examples/who_calls.rs"]
mod example;

use example::{Authenticate, Principal, read_certificate};

on_one_runtime!(
    only_who_is_known_is_served,
    a_handler_knows_the_certificates_of_both_sides,
    attributes_are_those_of_the_session,
);

const TOKEN: &str = "Bearer b3f1-9c47";

/// A server that looks at certificates, and takes clients without one.
fn lenient(world: &World) -> ServerTls {
    let authority = world.authority.pem().into_bytes();
    let builder = ServerTls::builder(identity(&world.server));
    builder.client_certificates(ClientCertificates::Optional(authority)).build().unwrap()
}

fn with_certificate(world: &World, signed: &Signed) -> ClientTls {
    let builder = ClientTls::builder().roots_pem(world.authority.pem()).server_name("localhost");
    builder.identity(identity(signed)).build().unwrap()
}

async fn connect<R: TestRuntime>(server: &Server<R>, tls: ClientTls) -> Caller {
    let (peer, caller) = rpc::peer(Services::new());
    let address = server.local_addr().to_string();
    client::<R>().tls(tls).tcp(&address, rpc::frames(), peer).await.unwrap();
    caller
}

/// What a handler begins with: it counts, and says who calls.
fn begin(call: &Call, started: &AtomicUsize) -> Result<String, Status> {
    started.fetch_add(1, Ordering::SeqCst);
    let Principal(name) = call.extension().expect("a layer has set it");
    Ok(name.to_string())
}

/// Calls the method of one shape, and returns who the server says calls.
async fn ask(caller: &Caller, shape: usize, token: Option<&str>) -> Result<String, Status> {
    fn with<S>(calling: Calling<S>, token: Option<&str>) -> Calling<S> {
        match token {
            Some(token) => calling.metadata("authorization", token),
            None => calling,
        }
    }
    match shape {
        0 => with(caller.call("t.T/Unary", Raw, &()), token).await,
        1 => {
            let mut names: Receiver<String> =
                with(caller.server_streaming("t.T/Server", Raw, &()), token).await?;
            let name = names.recv().await?.expect("an item");
            assert_eq!(names.recv().await?, None);
            Ok(name)
        }
        2 => {
            let (mut sender, answer) =
                with(caller.client_streaming::<_, String, String>("t.T/Client", Raw), token).await?;
            let _ = sender.send("x".to_owned()).await; // fails if the refusal was faster
            answer.await
        }
        _ => {
            let (mut sender, mut names) =
                with(caller.bidi_streaming::<_, String, String>("t.T/Bidi", Raw), token).await?;
            let _ = sender.send("x".to_owned()).await;
            drop(sender);
            let name = names.recv().await?.expect("an item");
            assert_eq!(names.recv().await?, None);
            Ok(name)
        }
    }
}

fn only_who_is_known_is_served<R: TestRuntime>() {
    // On the heap: without optimisation, certificates are checked deep in the stack.
    R::block_on(Box::pin(async {
        let started = Arc::new(AtomicUsize::new(0));
        let [one, two, three, four] = [(); 4].map(|()| started.clone());
        let services = Services::new()
            .method("t.T/Unary", Raw, move |call: Call, (): ()| {
                let name = begin(&call, &one);
                async move { name }
            })
            .server_streaming("t.T/Server", Raw, move |call: Call, (): (), mut out: Sender<String>| {
                let name = begin(&call, &two);
                async move { out.send(name?).await }
            })
            .client_streaming("t.T/Client", Raw, move |call: Call, mut items: Receiver<String>| {
                let name = begin(&call, &three);
                async move {
                    items.recv().await?;
                    name
                }
            })
            .bidi_streaming(
                "t.T/Bidi",
                Raw,
                move |call: Call, mut items: Receiver<String>, mut out: Sender<String>| {
                    let name = begin(&call, &four);
                    async move {
                        items.recv().await?;
                        out.send(name?).await
                    }
                },
            )
            .on_connect(read_certificate)
            .layer(Authenticate::new([("b3f1-9c47", "Ann")]));
        let world = World::new();
        let billing = world.authority.sign(&["billing.internal"]);
        let server = server::<R>().tls(lenient(&world));
        let server =
            server.tcp("127.0.0.1:0", rpc::frames, erased_each(move || services.listener())).await.unwrap();
        let nobody = connect(&server, client_tls(&world)).await;
        let certified = connect(&server, with_certificate(&world, &billing)).await;
        let cases = [
            (&nobody, None, Err("neither a token nor a client certificate was sent")),
            (&nobody, Some("Bearer guessed"), Err("the token is not known")),
            (&nobody, Some("Basic b3f1-9c47"), Err("\"authorization\" has no bearer token")),
            (&nobody, Some(TOKEN), Ok("Ann")),
            (&certified, None, Ok("billing.internal")),
            (&certified, Some("Bearer guessed"), Err("the token is not known")),
            (&certified, Some(TOKEN), Ok("Ann")),
        ];
        for (caller, token, expected) in cases {
            for shape in 0..4 {
                let before = started.load(Ordering::SeqCst);
                let answer = ask(caller, shape, token).await;
                let context = format!("shape {shape}, token {token:?}: {answer:?}");
                let ran = started.load(Ordering::SeqCst) - before;
                match expected {
                    Ok(name) => assert_eq!((answer.as_deref().ok(), ran), (Some(name), 1), "{context}"),
                    Err(text) => {
                        let status = answer.expect_err(&context);
                        assert_eq!(status.code(), Code::Unauthenticated, "{context}");
                        assert_eq!((status.executed(), ran), (Executed::No, 0), "{context}");
                        assert_eq!(status.message(), text);
                    }
                }
            }
        }
    }));
}

/// A layer that notes what it sees of TLS.
struct Note(Arc<Mutex<Vec<String>>>);

impl Layer for Note {
    async fn dispatch<D: Dispatch>(&self, inbound: Inbound, next: Next<'_, D>) -> Response {
        let tls = inbound.tls().map(|tls| (tls.server_name.clone(), tls.peer_certificates.len()));
        self.0.lock().unwrap().push(format!("{tls:?}"));
        next.run(inbound).await
    }
}

/// The certificate with which the other side of a call has begun.
fn certificate(call: &Call) -> Result<Vec<u8>, Status> {
    let tls = call.tls().ok_or_else(|| Status::new(Code::FailedPrecondition, "no TLS"))?;
    Ok(tls.peer_certificates.first().map(|certificate| certificate.to_vec()).unwrap_or_default())
}

fn a_handler_knows_the_certificates_of_both_sides<R: TestRuntime>() {
    R::block_on(Box::pin(async {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let services = || {
            Services::new()
                .method("t.T/Yours", Raw, |call: Call, (): ()| async move { certificate(&call) })
                .method("t.T/Mine", Raw, |call: Call, (): ()| async move {
                    call.peer().call::<_, _, Vec<u8>>("t.T/Yours", Raw, &()).await
                })
                .layer(Note(notes.clone()))
        };
        let world = World::new();
        let theirs = services();
        let server = server::<R>().tls(lenient(&world));
        let server =
            server.tcp("127.0.0.1:0", rpc::frames, erased_each(move || theirs.listener())).await.unwrap();
        let (peer, caller) = rpc::peer(services());
        let peer = erased(peer);
        let tls = with_certificate(&world, &world.client);
        let address = server.local_addr().to_string();
        client::<R>().tls(tls).tcp(&address, rpc::frames(), peer).await.unwrap();
        let yours: Vec<u8> = caller.call("t.T/Yours", Raw, &()).await.unwrap();
        assert_eq!(yours, world.client.chain()[0].to_vec());
        let mine: Vec<u8> = caller.call("t.T/Mine", Raw, &()).await.unwrap();
        assert_eq!(mine, world.server.chain()[0].to_vec());
        let seen = "Some((Some(\"localhost\"), 1))";
        assert_eq!(*notes.lock().unwrap(), [seen, seen, seen]);

        let (caller, driving) = rpc::in_memory::<R>(services());
        R::spawn(driving);
        let status = caller.call::<_, _, Vec<u8>>("t.T/Yours", Raw, &()).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(notes.lock().unwrap()[3], "None");
    }));
}

/// Which client of the server it is.
#[derive(Debug)]
struct Number(usize);

/// What a listener around that of the services has said.
#[derive(Debug)]
struct Tag;

/// Gives its session an attribute.
struct Tagged<L>(L);

impl<L: Listener<Items<Frame>>> Listener<Items<Frame>> for Tagged<L> {
    fn on_open(&mut self, cx: &mut Context<'_, Items<Frame>>, opened: &Opened) -> Result<(), Refuse> {
        self.0.on_open(cx, opened)?;
        cx.set_attribute(Tag);
        Ok(())
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

    fn on_shutdown(&mut self, cx: &mut Context<'_, Items<Frame>>) {
        self.0.on_shutdown(cx);
    }

    fn on_close(&mut self, cx: &mut Context<'_, Items<Frame>>, reason: &CloseReason) {
        self.0.on_close(cx, reason);
    }
}

fn attributes_are_those_of_the_session<R: TestRuntime>() {
    R::block_on(async {
        let (next, kept) = (AtomicUsize::new(0), Arc::new(Mutex::new(None)));
        let keep = kept.clone();
        let services = Services::new()
            .method("t.T/Which", Raw, move |call: Call, (): ()| {
                let known = (call.attribute::<Number>(), call.attribute::<Tag>(), call.attribute::<String>());
                *keep.lock().unwrap() = Some(call);
                async move { Ok::<_, Status>(format!("{known:?}")) }
            })
            .on_connect(move |_peer, opening| {
                assert!(opening.attribute::<Number>().is_none());
                assert!(opening.opened().peer.is_some());
                let number = next.fetch_add(1, Ordering::SeqCst);
                assert!(opening.set_attribute(Number(number)).is_none());
                assert_eq!(opening.attribute::<Number>().unwrap().0, number);
                Ok(())
            });
        let listeners = erased_each(move || Tagged(services.listener()));
        let server = server::<R>().tcp("127.0.0.1:0", rpc::frames, listeners).await.unwrap();
        let mut callers = Vec::new();
        for number in 0..2 {
            let caller = crate::basics::connect::<R>(&server).await;
            let known: String = caller.call("t.T/Which", Raw, &()).await.unwrap();
            assert_eq!(known, format!("(Some(Number({number})), Some(Tag), None)"));
            callers.push(caller);
        }
        let first: String = callers[0].call("t.T/Which", Raw, &()).await.unwrap();
        assert!(first.contains("Number(0)"), "{first}");
        let call: Call = kept.lock().unwrap().take().unwrap();
        assert!(call.attribute::<Number>().is_some());
        server.shutdown(Duration::from_secs(5)).await;
        until::<R>("the attributes are dropped", || call.attribute::<Number>().is_none()).await;
    });
}
