//! The user's side of a session: its listener with its context, its handles, its receiver.

pub(crate) mod context;
pub(crate) mod handle;
pub(crate) mod id;
pub(crate) mod listener;
pub(crate) mod outcome;
pub(crate) mod receiver;
pub(crate) mod shared;
pub(crate) mod turn_budget;
