//! [`system_random`]: the system's random bytes.

use std::cell::RefCell;
use std::io;

/// Bytes of the key of an opening handshake.
const HANDSHAKE_KEY: usize = 16;

/// Random bytes requested at a time.
const RANDOM_POOL: usize = 1024;

thread_local! {
    /// Stock of random bytes, so that not every mask costs a system call. Used bytes are cut off.
    static POOL: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Ensures that at least `wanted` random bytes are in stock.
fn fill_pool(pool: &mut Vec<u8>, wanted: usize) -> io::Result<()> {
    if pool.len() < wanted {
        let mut fresh = vec![0; RANDOM_POOL.max(wanted)];
        getrandom::fill(&mut fresh)
            .map_err(|error| io::Error::other(format!("the system has no random bytes: {error}")))?;
        *pool = fresh;
    }
    Ok(())
}

/// Checks that there are random bytes for an opening handshake.
///
/// # Errors
/// The system has none.
pub(crate) fn check_random() -> io::Result<()> {
    POOL.with_borrow_mut(|pool| fill_pool(pool, HANDSHAKE_KEY))
}

/// Fills `out` with the system's random bytes, as
/// [`WebSocket::client`](getty_core::websocket::WebSocket::client) requires, with any driver of the
/// session.
///
/// # Panics
/// If the system has no random bytes. As with a panic of the codec, that ends the session: a predictable
/// mask is worse than none. The clients of this crate check that random bytes are available before they
/// begin.
pub fn system_random(out: &mut [u8]) {
    POOL.with_borrow_mut(|pool| {
        fill_pool(pool, out.len()).expect("the system had random bytes when the session began");
        let rest = pool.len() - out.len();
        out.copy_from_slice(&pool[rest..]);
        pool.truncate(rest);
    });
}
