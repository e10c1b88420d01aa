//! A service of one thread, on a runtime of one thread: the others differ from it by their mistake.

use std::rc::Rc;

use getty_tokio::rpc::{self, Call, Services, Status};

#[rpc::service]
pub trait Room {
    async fn who(&self, call: &Call, begins: String) -> Result<String, Status>;
}

struct Rooms;

impl LocalRoom for Rooms {
    async fn who(&self, _: &Call, begins: String) -> Result<String, Status> {
        let here = Rc::new(begins);
        tokio::task::yield_now().await;
        Ok(here.to_string())
    }
}

fn main() {
    let services = Services::new().add(LocalRoomService::new(Rooms));
    let (_caller, driving) = rpc::in_memory(services);
    tokio::task::spawn_local(driving);
}
