//! The examples that others of the workspace have, against peers that share no code with them.

mod embedding;
mod everywhere;
#[cfg(target_os = "linux")]
mod per_core;
