//! [`Select`]: the choice among a pool's sessions.

/// Rule for choosing one of a pool's open sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Select {
    /// Each in turn. The default.
    #[default]
    RoundRobin,
    /// The one with the least load waiting to be sent: bytes that its peer has not taken, with each unencoded
    /// item counted as one. Avoids peers that read slowly. Sessions with equal load take turns.
    LeastLoaded,
}
