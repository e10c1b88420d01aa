//! [`likely`]: which way the path of an ordinary message goes.

/// Returns `condition`, and lets the compiler take it for true.
///
/// The path of a message passes a dozen conditions. Where the compiler takes each for an even chance, it
/// takes the path as a whole for unlikely, does not inline what lies on it, and lets the message pass
/// through memory, with loads wider than the stores before them.
#[inline(always)]
pub(crate) fn likely(condition: bool) -> bool {
    if !condition {
        unlikely();
    }
    condition
}

/// A call that only cold code makes.
#[cold]
#[inline]
fn unlikely() {}
