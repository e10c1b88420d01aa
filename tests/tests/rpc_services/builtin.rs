//! The built-in services: health and reflection.

use getty_tokio::rpc::health::{CheckRequest, Health, HealthCheckClient, ServingStatus};
use getty_tokio::rpc::reflection::{ListedMethod, Listing, ReflectClient, Reflection};
use getty_tokio::rpc::{self, Caller, Code, Json, Protobuf, Raw, Receiver, Sender, Services, Status};

/// A message of anybody's who knows the definition of `grpc.health.v1`.
#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(enumeration = "State", tag = "1")]
    status: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum State {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
}

fn connected(health: &Health) -> Caller {
    let services = Services::new()
        .method("a.Math/Add", Json, |_, (a, b): (i64, i64)| async move { Ok::<_, Status>(a + b) })
        .server_streaming("a.Math/Count", Raw, |_, _: String, _: Sender<String>| async move {
            Ok::<_, Status>(())
        })
        .client_streaming("a.Math/Sum", Raw, |_, _: Receiver<String>| async move {
            Ok::<_, Status>(String::new())
        })
        .bidi_streaming("b.Talk/Talk", Raw, |_, _: Receiver<String>, _: Sender<String>| async move {
            Ok::<_, Status>(())
        })
        .add(Reflection::new().service())
        .add(health.service());
    let (caller, driving) = rpc::in_memory(services);
    tokio::spawn(driving);
    caller
}

#[tokio::test]
async fn health_is_what_was_said() {
    let health = Health::new();
    let caller = connected(&health);
    let client = HealthCheckClient::new(caller.clone());
    assert!(client.check(CheckRequest::default()).await.unwrap().is_serving());
    let unknown = client.check(CheckRequest::of("a.Math")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    health.set("a.Math", false);
    assert!(!client.check(CheckRequest::of("a.Math")).await.unwrap().is_serving());
    // In JSON as in Protobuf's mapping, and in Protobuf with a definition that is not ours.
    let json: serde_json::Value = caller
        .call("grpc.health.v1.Health/Check", Json, &serde_json::json!({ "service": "a.Math" }))
        .await
        .unwrap();
    assert_eq!(json, serde_json::json!({ "status": "NOT_SERVING" }));
    let request = Request { service: "a.Math".into() };
    let response: Response = caller.call("grpc.health.v1.Health/Check", Protobuf, &request).await.unwrap();
    assert_eq!(response.status(), State::NotServing);
}

#[tokio::test]
async fn who_watches_is_told_of_each_change() {
    let health = Health::new();
    let client = HealthCheckClient::with(connected(&health), Protobuf);
    let mut math = client.watch(CheckRequest::of("a.Math")).await.unwrap();
    let mut program = client.watch(CheckRequest::default()).await.unwrap();
    let status = async |stream: &mut Receiver<_>| -> i32 {
        let next: Option<rpc::health::CheckResponse> = stream.recv().await.unwrap();
        next.unwrap().status
    };
    assert_eq!(status(&mut math).await, ServingStatus::ServiceUnknown as i32);
    assert_eq!(status(&mut program).await, ServingStatus::Serving as i32);
    health.set("a.Math", true);
    assert_eq!(status(&mut math).await, ServingStatus::Serving as i32);
    health.set("b.Talk", true); // no news of these two
    health.set_all(false);
    assert_eq!(status(&mut math).await, ServingStatus::NotServing as i32);
    assert_eq!(status(&mut program).await, ServingStatus::NotServing as i32);
    health.remove("a.Math");
    assert_eq!(status(&mut math).await, ServingStatus::ServiceUnknown as i32);
    health.set("a.Math", true);
    assert_eq!(status(&mut math).await, ServingStatus::Serving as i32);
    health.end();
    assert_eq!(status(&mut math).await, ServingStatus::NotServing as i32);
    assert_eq!(math.recv().await.unwrap(), None);
    assert_eq!(program.recv().await.unwrap(), None);
}

#[tokio::test]
async fn reflection_lists_what_is_served() {
    let caller = connected(&Health::new());
    let listing = ReflectClient::new(caller.clone()).list().await.unwrap();
    let names: Vec<_> = listing.services.iter().map(|service| &*service.name).collect();
    assert_eq!(names, ["a.Math", "b.Talk", "getty.reflection.v1.Reflection", "grpc.health.v1.Health"]);
    let method = |name: &str, shape: &str, codecs: &[&str], idempotent| ListedMethod {
        name: name.into(),
        shape: shape.into(),
        codecs: codecs.iter().map(|&codec| codec.into()).collect(),
        idempotent,
    };
    let math = [
        method("Add", "unary", &["json"], false),
        method("Count", "server_streaming", &["raw"], false),
        method("Sum", "client_streaming", &["raw"], false),
    ];
    assert_eq!(listing.services[0].methods, math);
    assert_eq!(listing.services[1].methods, [method("Talk", "bidi_streaming", &["raw"], false)]);
    assert_eq!(listing.services[2].methods, [method("List", "unary", &["json", "proto"], true)]);
    // The same in Protobuf.
    let listed: Listing = ReflectClient::with(caller, Protobuf).list().await.unwrap();
    assert_eq!(listed, listing);
}
