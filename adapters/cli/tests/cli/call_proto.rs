//! `getty call --proto`: messages of .proto files, against the types of prost.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use getty_tokio::Server;
use getty_tokio::rpc::{self, Protobuf, Receiver, Services, Status};
use tokio::runtime::Runtime;

use crate::call::{URLS, serve};
use crate::support::run;

#[derive(Clone, PartialEq, prost::Message)]
struct Animal {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(enumeration = "Kind", tag = "2")]
    kind: i32,
    #[prost(oneof = "Home", tags = "3, 4")]
    home: Option<Home>,
    #[prost(map = "string, uint64", tag = "5")]
    meals: HashMap<String, u64>,
    #[prost(message, repeated, tag = "6")]
    young: Vec<Animal>,
    #[prost(bytes = "bytes", tag = "7")]
    picture: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
enum Kind {
    Unspecified = 0,
    Cat = 1,
    Bird = 2,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Home {
    #[prost(string, tag = "3")]
    Cage(String),
    #[prost(message, tag = "4")]
    Keeper(Keeper),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Keeper {
    #[prost(string, tag = "1")]
    name: String,
}

const JSON: &str = r#"{"name":"Tom","kind":"CAT","keeper":{"name":"Ann"},"meals":{"fish":"18446744073709551615"},"young":[{"name":"Kit","cage":"small"}],"picture":"/wA="}"#;

/// What [`JSON`] is.
fn tom() -> Animal {
    let kit = Animal { name: "Kit".into(), home: Some(Home::Cage("small".into())), ..Animal::default() };
    Animal {
        name: "Tom".into(),
        kind: Kind::Cat.into(),
        home: Some(Home::Keeper(Keeper { name: "Ann".into() })),
        meals: HashMap::from([("fish".into(), u64::MAX)]),
        young: vec![kit],
        picture: Bytes::from_static(b"\xff\x00"),
    }
}

fn file(name: &str) -> String {
    format!("{}/tests/cli/proto/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A server without reflection, so that the shapes come from the file.
fn zoo() -> (Runtime, Server) {
    let runtime = Runtime::new().unwrap();
    let is_tom =
        |animal: &Animal| if *animal == tom() { Ok(()) } else { Err(Status::internal("who is that?")) };
    let services = Services::new()
        .method("zoo.v1.Zoo/Show", Protobuf, move |_call, animal: Animal| async move {
            is_tom(&animal)?;
            Ok::<_, Status>(animal)
        })
        .server_streaming("zoo.v1.Zoo/Grow", Protobuf, move |_call, animal: Animal, mut out| async move {
            is_tom(&animal)?;
            out.send(Animal { kind: 77, ..Animal::default() }).await?;
            out.send(animal).await
        })
        .client_streaming(
            "zoo.v1.Zoo/Count",
            Protobuf,
            move |_call, mut animals: Receiver<Animal>| async move {
                let mut meals = HashMap::new();
                while let Some(animal) = animals.recv().await? {
                    is_tom(&animal)?;
                    *meals.entry(animal.name).or_default() += 1;
                }
                Ok::<_, Status>(Animal { meals, ..Animal::default() })
            },
        )
        .bidi_streaming(
            "zoo.v1.Zoo/Parade",
            Protobuf,
            move |_call, mut animals: Receiver<Animal>, mut out| async move {
                while let Some(animal) = animals.recv().await? {
                    is_tom(&animal)?;
                    out.send(animal).await?;
                }
                Ok::<_, Status>(())
            },
        );
    let services = Arc::new(services);
    let listener = move || services.listener();
    let server = runtime.block_on(Server::builder().tcp("127.0.0.1:0", rpc::frames, listener)).unwrap();
    (runtime, server)
}

#[test]
fn messages_and_streams_of_every_kind() {
    let (_runtime, server) = zoo();
    let url = format!("tcp://{}", server.local_addr());
    let file = file("zoo.proto");
    let call = |method: &str, args: &[&str], input: &str| {
        let method = format!("zoo.v1.Zoo/{method}");
        let done = run(&[&["call", "--proto", &file, &url, &method], args].concat(), input);
        done.succeeded().text().to_owned()
    };
    assert_eq!(call("Show", &[JSON], ""), format!("{JSON}\n"));
    assert_eq!(call("Grow", &[JSON], ""), format!("{{\"kind\":77}}\n{JSON}\n"));
    let twice = format!("{JSON}\n{JSON}\n");
    assert_eq!(call("Count", &[], &twice), "{\"meals\":{\"Tom\":\"2\"}}\n");
    assert_eq!(call("Parade", &[], &twice), twice);
}

#[test]
fn the_echo_service_by_its_file() {
    let file = format!("{}/src/rpc/echo.proto", env!("CARGO_MANIFEST_DIR"));
    for url in URLS {
        let server = serve(url, &[]);
        let call = |args: &[&str], input: &str| {
            let done = run(&[&["call", "--proto", &file, &server.url], args].concat(), input);
            done.succeeded().text().to_owned()
        };
        let value = "{\"text\":\"x\",\"count\":2,\"delayMs\":1}";
        assert_eq!(call(&["getty.echo.v1.Echo/Unary", value], ""), format!("{value}\n"));
        assert_eq!(call(&["getty.echo.v1.Echo/Unary"], ""), "{}\n");
        let lines = "{\"text\":\"1\"}\n{}\n";
        assert_eq!(call(&["getty.echo.v1.Echo/Bidi"], lines), lines);
        assert_eq!(call(&["--codec", "json", "getty.echo.v1.Echo/Bidi"], lines), lines);
    }
}

#[test]
fn values_that_do_not_fit_the_message() {
    let (_runtime, server) = zoo();
    let url = format!("tcp://{}", server.local_addr());
    let file = file("zoo.proto");
    for (value, problem) in [
        ("{\"nmae\":1}", "unrecognized field name 'nmae'"),
        ("{\"name\":1}", "invalid type: integer `1`, expected a string at line 1 column 9"),
        ("{\"kind\":\"DOG\"}", "unrecognized enum value 'DOG'"),
        ("{", "EOF while parsing an object at line 1 column 1"),
        ("{} {}", "trailing characters at line 1 column 4"),
    ] {
        let done = run(&["call", "--proto", &file, &url, "zoo.v1.Zoo/Show", value], "");
        let done = done.failed(1, &format!("getty: {url}: InvalidArgument: not a zoo.v1.Animal: {problem}"));
        assert!(done.err.ends_with(" (not executed)\n"), "{}", done.err);
    }
}

#[test]
fn what_is_not_in_the_files() {
    for (name, method, problem) in [
        (
            "zoo.proto",
            "zoo.v1.Zoo/Feed",
            "--proto: zoo.v1.Zoo has no method Feed; there is Show, Grow, Count, Parade",
        ),
        ("zoo.proto", "zoo.Zoo/Show", "--proto: there is no service zoo.Zoo; there is zoo.v1.Zoo"),
        ("kinds.proto", "zoo.v1.Zoo/Show", "--proto: there is no service zoo.v1.Zoo; there is none"),
        ("nope.proto", "a/b", "nope.proto: No such file or directory"),
        ("../main.rs", "a/b", "--proto: main.rs:3:1: expected "),
    ] {
        run(&["call", "--proto", &file(name), "tcp://127.0.0.1:1", method], "").failed(1, problem);
    }
}
