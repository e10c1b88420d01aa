//! A service that a `.proto` file defines, and its client.
//!
//! ```sh
//! cargo run -p getty-tokio --features protobuf --example greet -- serve 127.0.0.1:7000
//! cargo run -p getty-tokio --features protobuf --example greet -- call 127.0.0.1:7000 Ann Bob
//! ```
//!
//! The code in `generated` was made with
//! `getty generate adapters/tokio/examples/greet/greet.proto --out adapters/tokio/examples/greet/generated`.

mod generated;

use std::error::Error;

use generated::greet::v1::{
    Daytime, Greeter, GreeterClient, GreeterService, HelloAgainRequest, HelloReply, HelloRequest,
};
use getty_tokio::rpc::{self, Call, Receiver, Sender, Services, Status};
use getty_tokio::{Client, Server};

/// Greets in English.
pub struct English;

impl Greeter for English {
    async fn hello(&self, _: &Call, request: HelloRequest) -> Result<HelloReply, Status> {
        if request.name.is_empty() {
            return Err(Status::invalid_argument("nobody to greet: the name is empty"));
        }
        let greeting = match request.daytime() {
            Daytime::Day => "hello",
            Daytime::Morning => "good morning",
            Daytime::Evening => "good evening",
        };
        Ok(HelloReply { text: format!("{greeting} {}", request.name) })
    }

    async fn hello_again(
        &self,
        call: &Call,
        request: HelloAgainRequest,
        out: &mut Sender<HelloReply>,
    ) -> Result<(), Status> {
        let hello = request.hello.unwrap_or_default();
        for _ in 0..request.times {
            out.send(self.hello(call, hello.clone()).await?).await?;
        }
        Ok(())
    }

    async fn hello_all(
        &self,
        call: &Call,
        requests: &mut Receiver<HelloRequest>,
        out: &mut Sender<HelloReply>,
    ) -> Result<(), Status> {
        while let Some(request) = requests.recv().await? {
            out.send(self.hello(call, request).await?).await?;
        }
        Ok(())
    }
}

/// Starts the server.
pub async fn serve(address: &str) -> std::io::Result<Server> {
    let services = Services::new().add(GreeterService::new(English));
    Server::builder().tcp(address, rpc::frames, move || services.listener()).await
}

/// Greets everybody, in the morning and then once more. Returns what the server answers.
pub async fn call(address: &str, names: Vec<String>) -> Result<Vec<String>, Box<dyn Error>> {
    let (peer, caller) = rpc::peer(Services::new());
    Client::builder().tcp(address, rpc::frames(), peer).await?;
    let greeter = GreeterClient::new(caller);

    let mut texts = Vec::new();
    for name in &names {
        let request = HelloRequest { name: name.clone(), daytime: Daytime::Morning.into() };
        texts.push(greeter.hello(request).await?.text);
    }
    let (mut requests, mut replies) = greeter.hello_all().await?;
    for name in names {
        requests.send(HelloRequest { name, ..Default::default() }).await?;
        texts.extend(replies.recv().await?.map(|reply| reply.text));
    }
    Ok(texts)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => {
            let server = serve(address).await?;
            println!("listening {}", server.local_addr());
            tokio::signal::ctrl_c().await?;
        }
        ["call", address, ..] => {
            for text in call(address, args[2..].to_vec()).await? {
                println!("{text}");
            }
        }
        _ => eprintln!("expected: serve ADDRESS, or call ADDRESS NAME..."),
    }
    Ok(())
}
