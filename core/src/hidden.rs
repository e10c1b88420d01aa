//! Placeholders in `Debug` output for content that does not belong in logs.

use std::fmt;

/// A payload, of which only the size is shown.
pub(crate) struct HiddenBytes(pub(crate) usize);

impl fmt::Debug for HiddenBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0)
    }
}

/// A secret, of which nothing is shown.
#[cfg(feature = "websocket")]
pub(crate) struct Hidden;

#[cfg(feature = "websocket")]
impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hidden>")
    }
}
