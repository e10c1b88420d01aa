//! An error type that does not say what it is.

use getty_tokio::rpc::{self, Call, Services, Status};

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Nobody;

#[rpc::service]
pub trait Room {
    async fn who(&self, call: &Call) -> Result<String, Status>;

    async fn leave(&self, call: &Call) -> Result<(), Nobody>; //~ `Nobody` is not the error of a method
}

struct Rooms;

impl Room for Rooms {
    async fn who(&self, _: &Call) -> Result<String, Status> {
        Ok(String::new())
    }

    async fn leave(&self, _: &Call) -> Result<(), Nobody> {
        Err(Nobody)
    }
}

fn main() {
    let _ = Services::new().add(RoomService::new(Rooms));
}
