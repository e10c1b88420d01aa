//! A chat room over lines of text: every line goes to all other members. Try it with several
//! `nc 127.0.0.1 7000`.
//!
//! ```sh
//! cargo run -p getty-tokio --example chat -- 127.0.0.1:7000
//! ```

use std::sync::{Arc, Mutex};

use getty_tokio::core::codec::Lines;
use getty_tokio::core::{CloseReason, Opened};
use getty_tokio::{Context, Handle, Items, Listener, Refuse, Server, SessionId, framed};

/// Handles have the same type for every transport, so one room can hold sessions of all transports.
#[derive(Clone, Default)]
struct Room(Arc<Mutex<Vec<Handle<String>>>>);

impl Room {
    fn say(&self, from: SessionId, text: &str) {
        for member in self.0.lock().unwrap().iter().filter(|member| member.id() != from) {
            // A member that can't keep up misses messages, but does not delay the others.
            let _ = member.try_send(format!("{from}: {text}"));
        }
    }
}

struct Member(Room);

impl Listener<Items<String>> for Member {
    fn on_open(&mut self, cx: &mut Context<'_, Items<String>>, _: &Opened) -> Result<(), Refuse> {
        self.0.say(cx.id(), "hello");
        let mut members = self.0.0.lock().unwrap();
        if members.len() >= 100 {
            return Err("the room is full".into());
        }
        members.push(cx.handle());
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_, Items<String>>, line: String) {
        self.0.say(cx.id(), &line);
    }

    fn on_close(&mut self, cx: &mut Context<'_, Items<String>>, reason: &CloseReason) {
        self.0.0.lock().unwrap().retain(|member| member.id() != cx.id());
        if cx.was_opened() {
            self.0.say(cx.id(), &format!("bye ({reason})"));
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_owned());
    let room = Room::default();
    let member = move || Member(room.clone());
    let server = Server::builder().tcp(&address, framed(Lines::new), member).await?;
    println!("listening tcp://{}", server.local_addr());
    std::future::pending().await
}
