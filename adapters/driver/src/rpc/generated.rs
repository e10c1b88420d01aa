//! What the code that macros make calls. Not for use by hand: it changes with the macros.

pub use crate::rpc::handling::{
    answer, call, choose, ended, not_served, receiver, sender, status, taken, value,
};
#[cfg(feature = "json")]
pub use serde;

use getty_core::rpc::{Decode, Encode};

use crate::rpc::error::MethodError;

/// Compiles if the codec has a form for the type.
pub fn is_spoken<C: Encode<T> + Decode<T>, T>() {}

/// Compiles if the type is the error of a method in the codec.
pub fn is_error<C, E: MethodError<C>>() {}
