//! The example of a chat room: the server calls its clients back.

use getty_driver::rpc::{CallError, Code};
use getty_tokio::rpc::Status;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

#[expect(dead_code, reason = "its terminal and its `main` are for the command line")]
#[path = "../../../adapters/tokio/examples/chat.rs"]
mod example;

/// A screen that the test reads.
struct Seen(UnboundedSender<(String, String)>);

impl example::Screen for Seen {
    async fn show(&self, from: String, text: String) -> Result<(), Status> {
        self.0.send((from, text)).map_err(|_| Status::unavailable("the screen is off"))
    }
}

fn screen() -> (Seen, UnboundedReceiver<(String, String)>) {
    let (send, receive) = unbounded_channel();
    (Seen(send), receive)
}

#[tokio::test]
async fn what_one_says_the_others_see() {
    let server = example::serve("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().to_string();
    let (ann_screen, mut ann_sees) = screen();
    let (bob_screen, mut bob_sees) = screen();
    let ann = example::join(&address, "Ann", ann_screen).await.unwrap();
    let bob = example::join(&address, "Bob", bob_screen).await.unwrap();
    assert_eq!(ann.say("hello".into()).await.unwrap(), 1);
    assert_eq!(bob_sees.recv().await.unwrap(), ("Ann".into(), "hello".into()));
    assert_eq!(bob.say("hello Ann".into()).await.unwrap(), 1);
    assert_eq!(ann_sees.recv().await.unwrap(), ("Bob".into(), "hello Ann".into()));

    let error = example::join(&address, "Ann", screen().0).await.err().unwrap();
    assert_eq!(error.to_string(), "take another name than Ann");
    let taken = bob.join("Ann".into()).await;
    assert!(matches!(taken, Err(CallError::App(example::JoinError::Taken { name })) if name == "Ann"));

    // A screen that is off does not count.
    drop(bob_sees);
    assert_eq!(ann.say("are you there?".into()).await.unwrap(), 0);
    let stranger = example::RoomClient::new(server_caller(&address).await);
    assert_eq!(stranger.say("hello".into()).await.unwrap_err().code(), Code::FailedPrecondition);
}

/// A caller that has not joined.
async fn server_caller(address: &str) -> getty_driver::rpc::Caller {
    use getty_driver::rpc::{Services, frames, peer};
    let (listener, caller) = peer(Services::new());
    getty_tokio::Client::builder().tcp(address, frames(), listener).await.unwrap();
    caller
}
