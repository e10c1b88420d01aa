//! A client that pulls its messages: sends each argument as a message and prints the replies.
//!
//! ```sh
//! cargo run -p getty-tokio --example client -- 127.0.0.1:7000 hello world
//! ```

use bytes::Bytes;
use getty_tokio::core::Close;
use getty_tokio::core::codec::LengthDelimited;
use getty_tokio::{Client, Framed};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:7000".to_owned());
    let mut connection =
        Client::builder().tcp_connection(&address, Framed::new(LengthDelimited::new())).await?;
    let questions: Vec<String> = arguments.collect();
    for question in &questions {
        connection.feed(Bytes::from(question.clone())).await?; // queued; `recv` writes all of them at once
    }
    for _ in &questions {
        match connection.recv().await? {
            Some(answer) => println!("{}", String::from_utf8_lossy(&answer)),
            None => break,
        }
    }
    println!("{}", connection.close(Close::graceful()).await);
    Ok(())
}
