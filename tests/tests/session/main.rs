//! One session over a byte stream, without a transport: messages, ends, deadlines, limits and layers.

#[path = "../common/mod.rs"]
mod common;

mod backpressure;
mod closing;
mod codecs_split;
mod conversations;
mod deadlines;
mod half_close;
mod layers;
mod receiving;
mod script;
mod sending;
mod tokio_util;
