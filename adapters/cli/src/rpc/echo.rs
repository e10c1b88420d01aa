//! The echo service of `getty serve --rpc`. `echo.proto` describes it for others.

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use getty_driver::rpc::{self, Json, Protobuf, Receiver, Sender, Status};

use crate::runtime::{BuiltIn, sleep_until};

/// The name of the service on the wire.
pub const SERVICE: &str = "getty.echo.v1.Echo";

/// Sends back what it gets.
#[rpc::service(name = "getty.echo.v1.Echo", codec = Json, crate = getty_driver)]
pub trait Echo {
    /// Sends the message back.
    #[rpc(name = "Unary", idempotent)]
    async fn unary(&self, message: Message) -> Result<Message, Status>;

    /// Sends the message back `count` times, at least once.
    #[rpc(name = "ServerStream", idempotent)]
    async fn server_stream(&self, message: Message, out: &mut Sender<Message>) -> Result<(), Status>;

    /// Sends the last message back, with the number of messages as its `count`.
    #[rpc(name = "ClientStream")]
    async fn client_stream(&self, messages: &mut Receiver<Message>) -> Result<Message, Status>;

    /// Sends each message back.
    #[rpc(name = "Bidi")]
    async fn bidi(&self, messages: &mut Receiver<Message>, out: &mut Sender<Message>) -> Result<(), Status>;
}

/// A message to echo. Its JSON is that of Protobuf.
#[derive(Clone, PartialEq, Eq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Message {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    #[prost(uint32, tag = "2")]
    #[serde(skip_serializing_if = "is_zero")]
    pub count: u32,
    /// Milliseconds to wait before it is sent back.
    #[prost(uint32, tag = "3")]
    #[serde(skip_serializing_if = "is_zero")]
    pub delay_ms: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The echo service, with the timers of a runtime.
pub struct EchoOn<R>(PhantomData<fn(R)>);

impl<R: BuiltIn> EchoOn<R> {
    async fn delay(&self, message: &Message) {
        if message.delay_ms > 0 {
            sleep_until::<R>(Instant::now() + Duration::from_millis(message.delay_ms.into())).await;
        }
    }
}

impl<R: BuiltIn> Echo for EchoOn<R> {
    async fn unary(&self, message: Message) -> Result<Message, Status> {
        self.delay(&message).await;
        Ok(message)
    }

    async fn server_stream(&self, message: Message, out: &mut Sender<Message>) -> Result<(), Status> {
        for _ in 0..message.count.max(1) {
            self.delay(&message).await;
            out.send(message.clone()).await?;
        }
        Ok(())
    }

    async fn client_stream(&self, messages: &mut Receiver<Message>) -> Result<Message, Status> {
        let (mut last, mut count) = (None, 0_u32);
        while let Some(message) = messages.recv().await? {
            (last, count) = (Some(message), count.saturating_add(1));
        }
        let Some(last) = last else { return Err(Status::invalid_argument("there was no message")) };
        self.delay(&last).await;
        Ok(Message { count, ..last })
    }

    async fn bidi(&self, messages: &mut Receiver<Message>, out: &mut Sender<Message>) -> Result<(), Status> {
        while let Some(message) = messages.recv().await? {
            self.delay(&message).await;
            out.send(message).await?;
        }
        Ok(())
    }
}

/// Makes the service.
pub fn service<R: BuiltIn>() -> EchoService<EchoOn<R>, (Json, Protobuf)> {
    EchoService::with(EchoOn(PhantomData), (Json, Protobuf))
}
