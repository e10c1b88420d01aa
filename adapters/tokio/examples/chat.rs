//! A chat room whose server calls its clients back: each member serves a screen, on the connection by which
//! it has joined.
//!
//! ```sh
//! cargo run -p getty-tokio --features json --example chat -- serve 127.0.0.1:7000
//! cargo run -p getty-tokio --features json --example chat -- join 127.0.0.1:7000 Ann   # and type
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use getty_tokio::rpc::{self, Call, CallError, Services, Status};
use getty_tokio::{Client, Server};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};

/// What the server has.
#[rpc::service(name = "chat.v1.Room")]
pub trait Room {
    /// Lets somebody in. What is said from now on is shown on the screen that the caller serves.
    async fn join(&self, call: &Call, name: String) -> Result<(), JoinError>;

    /// Says something to all others, and returns how many have seen it.
    async fn say(&self, call: &Call, text: String) -> Result<usize, Status>;
}

/// What each member has.
#[rpc::service(name = "chat.v1.Screen")]
pub trait Screen {
    /// Shows what somebody has said.
    async fn show(&self, from: String, text: String) -> Result<(), Status>;
}

/// Why somebody may not come in.
#[derive(Debug, Serialize, Deserialize, thiserror::Error, rpc::Error)]
pub enum JoinError {
    /// Somebody of this name is there.
    #[error("{name} is there already")]
    #[rpc(code = AlreadyExists)]
    Taken {
        /// The name.
        name: String,
    },
}

/// The members, by the numbers of their sessions.
#[derive(Clone, Default)]
struct Members(Arc<Mutex<BTreeMap<u64, (String, ScreenClient)>>>);

impl Room for Members {
    async fn join(&self, call: &Call, name: String) -> Result<(), JoinError> {
        let mut members = self.0.lock().unwrap();
        members.retain(|_, (_, screen)| !screen.caller().is_closed());
        if members.values().any(|(known, _)| *known == name) {
            return Err(JoinError::Taken { name });
        }
        members.insert(call.session_id().get(), (name, ScreenClient::new(call.peer())));
        Ok(())
    }

    async fn say(&self, call: &Call, text: String) -> Result<usize, Status> {
        let id = call.session_id().get();
        let members = self.0.lock().unwrap().clone();
        let (from, _) = members.get(&id).ok_or_else(|| Status::failed_precondition("join first"))?;
        let mut seen = 0;
        for (_, (_, screen)) in members.iter().filter(|(other, _)| **other != id) {
            // One that does not answer keeps nobody waiting for long.
            let shown = screen.show(from.clone(), text.clone()).timeout(Duration::from_secs(1)).within(call);
            seen += usize::from(shown.await.is_ok());
        }
        Ok(seen)
    }
}

/// Serves a room.
pub async fn serve(address: &str) -> io::Result<Server> {
    let services = Services::new().add(RoomService::new(Members::default()));
    Server::builder().tcp(address, rpc::frames, move || services.listener()).await
}

/// Joins the room at `address`, with this screen.
pub async fn join(
    address: &str,
    name: &str,
    screen: impl Screen,
) -> Result<RoomClient, Box<dyn std::error::Error + Send + Sync>> {
    let (peer, caller) = rpc::peer(Services::new().add(ScreenService::new(screen)));
    Client::builder().tcp(address, rpc::frames(), peer).await?;
    let room = RoomClient::new(caller);
    match room.join(name.to_owned()).await {
        Ok(()) => Ok(room),
        Err(CallError::App(JoinError::Taken { name })) => {
            Err(format!("take another name than {name}").into())
        }
        Err(CallError::Status(status)) => Err(status.into()),
    }
}

/// A screen that prints.
struct Terminal;

impl Screen for Terminal {
    async fn show(&self, from: String, text: String) -> Result<(), Status> {
        println!("{from}: {text}");
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => {
            let server = serve(address).await?;
            println!("listening {}", server.local_addr());
            server.ended().await;
        }
        ["join", address, name] => {
            let room = join(address, name, Terminal).await?;
            let mut lines = BufReader::new(tokio::io::stdin()).lines();
            while let Some(line) = lines.next_line().await? {
                let seen = room.say(line).await?;
                println!("({seen} have seen it)");
            }
        }
        _ => eprintln!("expected: serve ADDRESS, or join ADDRESS NAME"),
    }
    Ok(())
}
