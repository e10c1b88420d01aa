//! A service of one thread, on a runtime that has threads.

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
        tokio::task::yield_now().await; //~ await occurs here
        Ok(here.to_string())
    }
}

fn main() {
    let services = Services::new().add(LocalRoomService::new(Rooms));
    let (_caller, driving) = rpc::in_memory(services);
    tokio::spawn(driving); //~ future cannot be sent between threads safely
}
