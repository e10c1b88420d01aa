//! Examples of the workspace, with peers that share no code with them.

mod calls;
mod chat;
mod embedding;
mod everywhere;
#[cfg(unix)]
mod fairness;
#[cfg(unix)]
mod greeter;
mod own_codec;
#[cfg(target_os = "linux")]
mod per_core;
mod upload;
