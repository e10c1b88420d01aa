//! A value that has no form in the codec.

use getty_tokio::rpc::{self, Protobuf, Services, Status};

pub struct Filter;

#[rpc::service(codec = Protobuf)]
pub trait Room {
    async fn who(&self, filter: Filter) -> Result<(), Status>; //~ `Filter: prost::message::Message` is not satisfied
}

struct Rooms;

impl Room for Rooms {
    async fn who(&self, _: Filter) -> Result<(), Status> {
        Ok(())
    }
}

fn main() {
    let _ = Services::new().add(RoomService::new(Rooms));
}
