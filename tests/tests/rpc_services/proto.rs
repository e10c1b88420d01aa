//! Services that `.proto` files define: their code, and what goes over the wire.

mod example;
mod generated;
mod json;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use getty_codegen::Config;
use getty_tokio::rpc::{
    self, Call, CallShape, Code, Json, Protobuf, Raw, Receiver, Sender, Service, Services,
};
use prost::Message;
use prost_types::Timestamp;

use generated::shop::money::Price;
use generated::shop::v1::order_request::card::Kind;
use generated::shop::v1::order_request::{Card, Payment};
use generated::shop::v1::{Article, OrderRequest, Query, Receipt, Result as Outcome, Shop, Status};
use generated::shop::v1::{ShopClient, ShopService};

/// The folder of the `.proto` files.
fn protos() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rpc_services/proto")
}

#[test]
fn committed_code_is_current() {
    let check = |config: Config, out: &str, file: &str| {
        config.out_dir(protos().join(out)).check(&[protos().join(file)], &[protos()]).unwrap();
    };
    check(Config::new(), "generated", "shop.proto");
    check(Config::new().serde(true), "json", "note.proto");
}

/// Answers with what it got.
struct Kiosk;

impl Shop for Kiosk {
    async fn order(&self, _: &Call, request: OrderRequest) -> Result<Receipt, rpc::Status> {
        if request.articles.is_empty() {
            return Err(rpc::Status::invalid_argument("no articles"));
        }
        let at = Some(Timestamp { seconds: 1, nanos: 2 });
        Ok(Receipt { number: 9, order: Some(request), at, price: Some(Price { cents: -5 }) })
    }

    async fn find_articles(
        &self,
        _: &Call,
        request: Query,
        out: &mut Sender<Article>,
    ) -> Result<(), rpc::Status> {
        for number in 1..=3 {
            out.send(article(number, &request.begins)).await?;
        }
        Ok(())
    }

    async fn import(&self, _: &Call, requests: &mut Receiver<Article>) -> Result<Price, rpc::Status> {
        let mut cents = 0;
        while let Some(article) = requests.recv().await? {
            cents += i64::try_from(article.number).unwrap();
        }
        Ok(Price { cents })
    }

    async fn sort(
        &self,
        _: &Call,
        requests: &mut Receiver<Article>,
        out: &mut Sender<Timestamp>,
    ) -> Result<(), rpc::Status> {
        while let Some(article) = requests.recv().await? {
            out.send(Timestamp { seconds: 0, nanos: i32::try_from(article.number).unwrap() }).await?;
        }
        Ok(())
    }

    async fn close(&self, _: &Call) -> Result<(), rpc::Status> {
        Ok(())
    }

    async fn new_(&self, _: &Call) -> Result<Outcome, rpc::Status> {
        Ok(Outcome { status: Some(Status { code: 1 }) })
    }

    async fn r#type(&self, _: &Call, request: Status) -> Result<Status, rpc::Status> {
        Ok(Status { code: request.code + 1 })
    }

    async fn ready(&self, _: &Call, out: &mut Sender<()>) -> Result<(), rpc::Status> {
        out.send(()).await
    }
}

fn article(number: u64, name: &str) -> Article {
    Article { number, name: name.into(), parts: vec![Article::default()], weight: 0.5 }
}

fn order(payment: Payment) -> OrderRequest {
    OrderRequest {
        articles: HashMap::from([(u64::MAX, 2)]),
        extra: HashMap::from([("gift".to_owned(), article(4, "bow"))]),
        payment: Some(payment),
        remark: Some(String::new()),
        floor: None,
        vouchers: vec![-1, i64::MAX],
    }
}

fn shop() -> ShopClient {
    let (caller, driving) = rpc::in_memory(Services::new().add(ShopService::new(Kiosk)));
    tokio::spawn(driving);
    ShopClient::new(caller)
}

#[tokio::test]
async fn values_of_every_kind_come_back() {
    let shop = shop();
    let card = Card { number: vec![0, 255], kind: Kind::Credit.into() };
    for payment in [Payment::Card(card), Payment::Invoice("Ann".into()), Payment::InCash(false)] {
        let receipt = shop.order(order(payment.clone())).timeout(Duration::from_secs(9)).await.unwrap();
        assert_eq!(receipt.order, Some(order(payment)));
        assert_eq!((receipt.number, receipt.price), (9, Some(Price { cents: -5 })));
        assert_eq!(receipt.at, Some(Timestamp { seconds: 1, nanos: 2 }));
    }
    let error = shop.order(OrderRequest::default()).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "no articles"));
    assert_eq!(shop.r#type(Status { code: 1 }).await, Ok(Status { code: 2 }));
    assert_eq!(shop.new_().await.unwrap().status, Some(Status { code: 1 }));
    #[expect(deprecated, reason = "so it is in the file")]
    shop.close().await.unwrap();
}

#[tokio::test]
async fn streams_of_every_shape() {
    let shop = shop();
    let mut articles = shop.find_articles(Query { begins: "b".into() }).await.unwrap();
    for number in 1..=3 {
        assert_eq!(articles.recv().await, Ok(Some(article(number, "b"))));
    }
    assert_eq!(articles.recv().await, Ok(None));

    let (mut articles, sum) = shop.import().await.unwrap();
    for number in [20, 22] {
        articles.send(article(number, "a")).await.unwrap();
    }
    articles.finish();
    assert_eq!(sum.await, Ok(Price { cents: 42 }));

    let (mut articles, mut places) = shop.sort().await.unwrap();
    articles.send(article(7, "a")).await.unwrap();
    assert_eq!(places.recv().await, Ok(Some(Timestamp { seconds: 0, nanos: 7 })));
    articles.finish();
    assert_eq!(places.recv().await, Ok(None));

    let mut ready = shop.ready().await.unwrap();
    assert_eq!((ready.recv().await, ready.recv().await), (Ok(Some(())), Ok(None)));
}

#[test]
fn names_and_options_of_the_file() {
    let methods = ShopService::new(Kiosk).methods();
    let facts = methods.iter().map(|method| (&**method.name(), method.shape(), method.is_idempotent()));
    assert_eq!(
        facts.collect::<Vec<_>>(),
        [
            ("shop.v1.Shop/Order", CallShape::Unary, false),
            ("shop.v1.Shop/FindArticles", CallShape::ServerStreaming, true),
            ("shop.v1.Shop/Import", CallShape::ClientStreaming, false),
            ("shop.v1.Shop/Sort", CallShape::BidiStreaming, true),
            ("shop.v1.Shop/Close", CallShape::Unary, false),
            ("shop.v1.Shop/New", CallShape::Unary, false),
            ("shop.v1.Shop/Type", CallShape::Unary, false),
            ("shop.v1.Shop/ready", CallShape::ServerStreaming, false),
        ]
    );
}

/// The order of `shop.proto`, written by hand.
#[derive(Clone, PartialEq, Message)]
struct ByHand {
    #[prost(map = "uint64, uint32", tag = "1")]
    articles: HashMap<u64, u32>,
    #[prost(message, optional, tag = "4")]
    card: Option<CardByHand>,
    #[prost(string, optional, tag = "6")]
    remark: Option<String>,
    #[prost(sint64, repeated, tag = "8")]
    vouchers: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct CardByHand {
    #[prost(bytes = "vec", tag = "1")]
    number: Vec<u8>,
    #[prost(int32, tag = "2")]
    kind: i32,
}

/// The bytes of a call are those of prost, for a caller that has another type and no trait.
#[tokio::test]
async fn bytes_are_those_of_protobuf() {
    let by_hand = ByHand {
        articles: HashMap::from([(u64::MAX, 2)]),
        card: Some(CardByHand { number: vec![0, 255], kind: 2 }),
        remark: Some(String::new()),
        vouchers: vec![-1, i64::MAX],
    };
    let card = Card { number: vec![0, 255], kind: Kind::Credit.into() };
    let generated = OrderRequest { extra: HashMap::new(), ..order(Payment::Card(card)) };
    assert_eq!(generated.encode_to_vec(), by_hand.encode_to_vec());
    assert_eq!(OrderRequest::decode(&*by_hand.encode_to_vec()), Ok(generated));

    #[derive(Clone, PartialEq, Message)]
    struct ReceiptByHand {
        #[prost(fixed64, tag = "1")]
        number: u64,
        #[prost(message, optional, tag = "2")]
        order: Option<ByHand>,
    }
    let shop = shop();
    let answer: Result<ReceiptByHand, _> = shop.caller().call("shop.v1.Shop/Order", Protobuf, &by_hand).await;
    assert_eq!(answer, Ok(ReceiptByHand { number: 9, order: Some(by_hand) }));
    let answer: Result<String, rpc::Status> = shop.caller().call("shop.v1.Shop/Order", Raw, "x").await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
}

/// One service of a file with both codecs, and the form of its messages in JSON that README.md describes.
#[tokio::test]
async fn messages_in_json() {
    use json::note::v1::note::{Color, Content};
    use json::note::v1::{Note, Notes, NotesClient, NotesService};

    struct Desk;

    impl Notes for Desk {
        async fn keep(&self, _: &Call, request: Note) -> Result<Note, rpc::Status> {
            Ok(request)
        }
    }

    let services = Services::new().add(NotesService::with(Desk, (Json, Protobuf)));
    let (caller, driving) = rpc::in_memory(services);
    tokio::spawn(driving);
    let note = Note {
        user_name: "Ann".into(),
        color: Color::Red.into(),
        pages: HashMap::from([(1, "one".to_owned())]),
        size: Some(i64::MAX),
        seal: vec![0, 255],
        content: Some(Content::Nested(Box::new(Note {
            pages: HashMap::from([(-2, "two".to_owned())]),
            content: Some(Content::PlainText("hi".into())),
            ..Note::default()
        }))),
    };
    assert_eq!(NotesClient::new(caller.clone()).keep(note.clone()).await, Ok(note.clone()));
    assert_eq!(NotesClient::with(caller.clone(), Json).keep(note).await.unwrap().size, Some(i64::MAX));
    let value = serde_json::json!({ "userName": "Ann", "color": 1, "content": { "plainText": "hi" } });
    let answer: serde_json::Value = caller.call("note.v1.Notes/Keep", Json, &value).await.unwrap();
    assert_eq!(
        answer,
        serde_json::json!({
            "userName": "Ann", "color": 1, "pages": {}, "size": null, "seal": [],
            "content": { "plainText": "hi" },
        })
    );
}
