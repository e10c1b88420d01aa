//! Who may implement a service, and where it runs.

use std::cell::Cell;
use std::rc::Rc;

use getty_tokio::Server;
use getty_tokio::rpc::{self, Call, Codecs, Json, Protobuf, Sender, Services, Status};

#[rpc::service(name = "test.Counter", codec = Protobuf)]
pub trait Counter {
    async fn add(&self, call: &Call, number: Number) -> Result<Number, Status>;

    async fn count(&self, number: Number, out: &mut Sender<Number>) -> Result<(), Status>;

    #[rpc(runs_on)]
    async fn slowly(&self, call: &Call) -> Result<(), Status>;
}

#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
pub struct Number {
    #[prost(uint64, tag = "1")]
    value: u64,
}

/// What a handler that runs on leaves behind.
const BEGUN: u64 = 999;
const CANCELLED: u64 = 1000;

/// A service of one thread.
struct Local(Rc<Cell<u64>>);

impl LocalCounter for Local {
    async fn add(&self, _: &Call, number: Number) -> Result<Number, Status> {
        let here = self.0.clone();
        tokio::task::yield_now().await;
        here.set(here.get() + number.value);
        Ok(Number { value: here.get() })
    }

    async fn count(&self, number: Number, out: &mut Sender<Number>) -> Result<(), Status> {
        for value in 0..number.value {
            out.send(Number { value }).await?;
        }
        Ok(())
    }

    async fn slowly(&self, call: &Call) -> Result<(), Status> {
        self.0.set(BEGUN);
        call.cancelled().await;
        self.0.set(CANCELLED);
        Ok(())
    }
}

#[tokio::test]
async fn a_service_of_one_thread() {
    let kept = Rc::new(Cell::new(0));
    let services = Services::new().add(LocalCounterService::with(Local(kept.clone()), (Json, Protobuf)));
    let (caller, driving) = rpc::in_memory(services);
    let tasks = tokio::task::LocalSet::new();
    tasks.spawn_local(driving);
    let run = tasks.run_until(async {
        let counter = CounterClient::new(caller.clone());
        assert_eq!(counter.add(Number { value: 2 }).await.unwrap().value, 2);
        // The same service in another codec.
        let json = CounterClient::with(caller.clone(), Json);
        assert_eq!(json.add(Number { value: 3 }).await.unwrap().value, 5);
        let mut numbers = json.count(Number { value: 2 }).await.unwrap();
        assert_eq!(numbers.recv().await.unwrap(), Some(Number { value: 0 }));
        let answer: Result<String, Status> = caller.call("test.Counter/add", rpc::Raw, "x").await;
        let text = "test.Counter/add is served with the codecs json, proto, not with raw";
        assert_eq!(answer.unwrap_err().message(), text);
        // It runs on after its caller has given up.
        let until = async |value| {
            while kept.get() != value {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            ended = counter.slowly() => panic!("nobody has given up: {ended:?}"),
            () = until(BEGUN) => {}
        }
        until(CANCELLED).await;
    });
    run.await;
}

/// A service that a generic function serves, in tasks of a runtime with threads.
async fn start<S: Counter>(service: S) -> Result<Server, std::io::Error> {
    let services = Services::new().add(CounterService::new(service));
    Server::builder().tcp("127.0.0.1:0", rpc::frames, move || services.listener()).await
}

struct Shared;

impl Counter for Shared {
    async fn add(&self, _: &Call, number: Number) -> Result<Number, Status> {
        Ok(Number { value: number.value + 1 })
    }

    async fn count(&self, _: Number, _: &mut Sender<Number>) -> Result<(), Status> {
        Ok(())
    }

    async fn slowly(&self, _: &Call) -> Result<(), Status> {
        Ok(())
    }
}

#[tokio::test]
async fn a_generic_function_serves_it() {
    let server = start(Shared).await.unwrap();
    let (peer, caller) = rpc::peer(Services::new());
    let address = server.local_addr().to_string();
    getty_tokio::Client::builder().tcp(&address, rpc::frames(), peer).await.unwrap();
    let counter = CounterClient::new(caller);
    // Handles of streams are held across await points in a task that may change its thread.
    let task = tokio::spawn(async move {
        let mut numbers = counter.count(Number { value: 1 }).await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(numbers.recv().await.unwrap(), None);
        counter.add(Number { value: 1 }).await.unwrap().value
    });
    assert_eq!(task.await.unwrap(), 2);
}

#[test]
fn a_codec_is_found_by_its_name() {
    let codecs = (Json, Protobuf, rpc::Raw);
    let names: Vec<_> = codecs.names().iter().map(|name| codecs.find(name).unwrap()).collect();
    let names: Vec<_> = names.iter().map(|codec| rpc::Codec::name(codec).to_string()).collect();
    assert_eq!(names, ["json", "proto", "raw"]);
    assert!((Json, Protobuf).find(&rpc::CodecName::Raw).is_none());
}
