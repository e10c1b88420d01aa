//! Services as traits: what `#[rpc::service]` and `#[derive(rpc::Error)]` make.

mod builtin;
mod compile;
mod proto;
mod room;
mod rules;
