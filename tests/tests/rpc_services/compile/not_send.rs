//! A method that holds an `Rc`, in the trait whose futures change their threads.

use std::rc::Rc;

use getty_tokio::rpc::{self, Call, Status};

#[rpc::service]
pub trait Room {
    async fn who(&self, call: &Call, begins: String) -> Result<String, Status>;
}

struct Rooms;

impl Room for Rooms {
    async fn who(&self, _: &Call, begins: String) -> Result<String, Status> { //~ future cannot be sent
        let here = Rc::new(begins);
        tokio::task::yield_now().await;
        Ok(here.to_string())
    }
}

fn main() {
    RoomService::new(Rooms);
}
