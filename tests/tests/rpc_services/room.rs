//! One service with methods of every shape, as its users write and call it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use getty_tokio::rpc::{
    self, Call, CallError, CallShape, Caller, Code, CodecName, Executed, Json, Receiver, Sender, Service,
    Services, Status,
};
use serde::{Deserialize, Serialize};

/// A room where people talk.
#[rpc::service(name = "chat.v1.Room")]
pub trait Room {
    /// Lists who is there.
    #[rpc(idempotent)]
    async fn who(&self, call: &Call, filter: Filter) -> Result<Vec<String>, RoomError>;

    /// Follows what is said.
    async fn follow(&self, call: &Call, since: u64, out: &mut Sender<Line>) -> Result<(), RoomError>;

    /// Adds lines, and returns how many.
    async fn import(&self, lines: &mut Receiver<Line>) -> Result<u64, RoomError>;

    async fn talk(
        &self,
        call: &Call,
        lines: &mut Receiver<Line>,
        out: &mut Sender<Line>,
    ) -> Result<(), RoomError>;

    #[rpc(one_way)]
    async fn seen(&self, call: &Call, upto: u64);

    /// The name on the wire is another one, and there are two arguments.
    #[rpc(name = "Rename")]
    async fn rename(&self, from: Name, mut to: String) -> Result<String, Status> {
        to.push_str(&from.0);
        self.who(&never_a_call()?, Filter::default())
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(to)
    }

    /// A default that nobody overrides.
    async fn version(&self) -> Result<u32, Infallible> {
        Ok(1)
    }

    #[rpc(named)]
    async fn size(&self, call: &Call, unit: String) -> Result<String, Status>;
}

fn never_a_call() -> Result<Call, Status> {
    Err(Status::unimplemented("renaming"))
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Filter {
    begins: String,
}

/// A value has to have no more than a form in the codec.
#[derive(Serialize, Deserialize)]
pub struct Name(String);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    author: String,
    text: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, rpc::Error)]
pub enum RoomError {
    #[rpc(code = PermissionDenied)]
    Banned { until: u64 },
    #[rpc(code = NotFound)]
    Nobody,
    #[rpc(status)]
    #[serde(skip)]
    Other(Status),
}

impl std::fmt::Display for RoomError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RoomError::Banned { until } => write!(f, "banned until {until}"),
            RoomError::Nobody => f.write_str("nobody is there"),
            RoomError::Other(status) => status.fmt(f),
        }
    }
}

#[derive(Default)]
struct Rooms {
    seen: Mutex<BTreeMap<u64, String>>,
}

impl Room for Rooms {
    async fn who(&self, call: &Call, filter: Filter) -> Result<Vec<String>, RoomError> {
        match &*filter.begins {
            "banned" => Err(RoomError::Banned { until: 7 }),
            "z" => Err(RoomError::Nobody),
            "status" => Err(Status::unavailable("later").into()),
            begins => Ok(vec![format!("{begins}nn"), call.method().to_owned()]),
        }
    }

    async fn follow(&self, _: &Call, since: u64, out: &mut Sender<Line>) -> Result<(), RoomError> {
        for number in since..since + 3 {
            out.send(Line { author: "Ann".into(), text: number.to_string() }).await?;
        }
        if since == 0 { Err(RoomError::Nobody) } else { Ok(()) }
    }

    async fn import(&self, lines: &mut Receiver<Line>) -> Result<u64, RoomError> {
        let mut number = 0;
        while let Some(line) = lines.recv().await? {
            number += 1;
            if line.text == "bad" {
                return Err(RoomError::Banned { until: number });
            }
        }
        Ok(number)
    }

    async fn talk(
        &self,
        _: &Call,
        lines: &mut Receiver<Line>,
        out: &mut Sender<Line>,
    ) -> Result<(), RoomError> {
        while let Some(line) = lines.recv().await? {
            out.send(Line { author: "echo".into(), ..line }).await?;
        }
        Err(RoomError::Banned { until: 1 })
    }

    async fn seen(&self, call: &Call, upto: u64) {
        self.seen.lock().unwrap().insert(upto, call.method().to_owned());
    }

    async fn size(&self, call: &Call, unit: String) -> Result<String, Status> {
        Ok(format!("{unit} {}", call.attempt()))
    }
}

fn room() -> RoomClient {
    let (caller, driving) = rpc::in_memory(Services::new().add(RoomService::new(Rooms::default())));
    tokio::spawn(driving);
    RoomClient::new(caller)
}

fn line(text: &str) -> Line {
    Line { author: "Bob".into(), text: text.into() }
}

#[tokio::test]
async fn values_and_errors_come_back_with_their_types() {
    let room = room();
    let filter = |begins: &str| Filter { begins: begins.into() };
    assert_eq!(room.who(filter("A")).await.unwrap(), ["Ann", "chat.v1.Room/who"]);
    let error = room.who(filter("banned")).timeout(Duration::from_secs(9)).await.unwrap_err();
    assert_eq!(error, CallError::App(RoomError::Banned { until: 7 }));
    assert_eq!(error.executed(), Executed::Yes);
    assert_eq!(room.who(filter("z")).await, Err(CallError::App(RoomError::Nobody)));
    // A status that a handler passes on stays one, with its code.
    let CallError::Status(status) = room.who(filter("status")).await.unwrap_err() else { panic!() };
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "later"));
    assert_eq!(room.version().await.unwrap(), 1);
    let error = room.rename(Name("a".into()), "b".into()).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unimplemented, "renaming"));
    assert_eq!(room.size("m".into()).await.unwrap(), "m 0");
}

#[tokio::test]
async fn streams_go_down_up_and_both_ways() {
    let room = room();
    let mut lines = room.follow(5).await.unwrap();
    for text in ["5", "6", "7"] {
        assert_eq!(lines.recv().await.unwrap().unwrap().text, text);
    }
    assert_eq!(lines.recv().await.unwrap(), None);
    let mut lines = room.follow(0).await.unwrap();
    for _ in 0..3 {
        lines.recv().await.unwrap().unwrap();
    }
    assert_eq!(lines.recv().await, Err(CallError::App(RoomError::Nobody)));

    let (mut lines, number) = room.import().await.unwrap();
    lines.send(line("one")).await.unwrap();
    lines.send(line("two")).await.unwrap();
    lines.finish();
    assert_eq!(number.await, Ok(2));
    let (mut lines, number) = room.import().await.unwrap();
    lines.send(line("bad")).await.unwrap();
    assert_eq!(number.await, Err(CallError::App(RoomError::Banned { until: 1 })));

    let (mut lines, mut echoes) = room.talk().await.unwrap();
    lines.send(line("hello")).await.unwrap();
    let echo = echoes.recv().await.unwrap().unwrap();
    assert_eq!((&*echo.author, &*echo.text), ("echo", "hello"));
    lines.finish();
    assert_eq!(echoes.recv().await, Err(CallError::App(RoomError::Banned { until: 1 })));
}

#[tokio::test]
async fn a_one_way_call_ends_when_it_is_taken() {
    room().seen(7).await.unwrap();
}

/// What goes over the wire, seen by a caller that knows no trait.
#[tokio::test]
async fn names_and_values_on_the_wire() {
    let room = room();
    let caller: &Caller = room.caller();
    let call = async |method: &'static str, value: serde_json::Value| {
        caller.call::<_, _, serde_json::Value>(method, Json, &value).await
    };
    let people = call("chat.v1.Room/who", serde_json::json!({ "begins": "A" })).await.unwrap();
    assert_eq!(people, serde_json::json!(["Ann", "chat.v1.Room/who"]));
    assert_eq!(call("chat.v1.Room/version", serde_json::Value::Null).await.unwrap(), 1);
    let size = call("chat.v1.Room/size", serde_json::json!({ "unit": "m" })).await;
    assert_eq!(size.unwrap(), "m 0");
    let error = call("chat.v1.Room/Rename", serde_json::json!({ "from": "a" })).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("missing field `to`"), "{}", error.message());
    let error = call("chat.v1.Room/rename", serde_json::Value::Null).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Unimplemented, Executed::No));
    let error = call("chat.v1.Roomer/who", serde_json::Value::Null).await.unwrap_err();
    assert_eq!(error.message(), "no method chat.v1.Roomer/who is served here");
    let error = call("chat.v1.Room/who", serde_json::json!({ "begins": "banned" })).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::PermissionDenied, "banned until 7"));
    assert_eq!(&error.details()[..], br#"{"Banned":{"until":7}}"#);
    let answer: Result<String, _> = caller.call("chat.v1.Room/who", rpc::Raw, "x").await;
    let error = answer.unwrap_err();
    assert_eq!(error.message(), "chat.v1.Room/who is served with the codec json, not with raw");
}

#[test]
fn what_is_known_of_its_methods() {
    let methods = RoomService::new(Rooms::default()).methods();
    let facts = methods.iter().map(|method| (&**method.name(), method.shape(), method.is_idempotent()));
    assert_eq!(
        facts.collect::<Vec<_>>(),
        [
            ("chat.v1.Room/who", CallShape::Unary, true),
            ("chat.v1.Room/follow", CallShape::ServerStreaming, false),
            ("chat.v1.Room/import", CallShape::ClientStreaming, false),
            ("chat.v1.Room/talk", CallShape::BidiStreaming, false),
            ("chat.v1.Room/seen", CallShape::OneWay, false),
            ("chat.v1.Room/Rename", CallShape::Unary, false),
            ("chat.v1.Room/version", CallShape::Unary, false),
            ("chat.v1.Room/size", CallShape::Unary, false),
        ]
    );
    assert!(methods.iter().all(|method| method.codecs() == [CodecName::Json]));
    assert_eq!(RoomService::NAME, "chat.v1.Room");
}
