//! Services as traits: what `#[rpc::service]` and `#[derive(rpc::Error)]` make.

mod builtin;
mod compile;
mod room;
mod rules;
