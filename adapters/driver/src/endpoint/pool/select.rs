//! [`Select`]: which session of a pool is taken.

/// Which of a pool's open sessions is taken next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Select {
    /// One after the other. The default.
    #[default]
    RoundRobin,
    /// The one for which the least waits to be sent: bytes that its peer has not taken, and items that are
    /// not encoded yet, each counted as one. It keeps away from a peer that is slow to read. Those with as
    /// little take turns.
    LeastLoaded,
}
