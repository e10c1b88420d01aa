//! [`Shape`]: which streams a call has.

use clap::ValueEnum;

/// The shape of a call, by the name that reflection has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Shape {
    /// One value, one answer
    Unary,
    /// One value, no answer
    OneWay,
    /// One value, a stream of items
    ServerStreaming,
    /// A stream of items, one answer
    ClientStreaming,
    /// A stream of items, another one
    BidiStreaming,
}

impl Shape {
    /// Whether the caller sends a stream.
    pub fn takes_items(self) -> bool {
        matches!(self, Shape::ClientStreaming | Shape::BidiStreaming)
    }
}
