//! Copying of bytes, possibly many.

use bytes::BytesMut;

/// Bytes copied at a time. Above 4 KiB, the C library of many Linux systems (glibc before 2.39) uses
/// `rep movsb`, which is several times slower than a loop on AMD's Zen 3 and 4 (glibc bug 30994): it made an
/// echo of 1 KiB messages over TLS, 16 at a time, take a sixth more CPU.
pub(crate) const STEP: usize = 2 * 1024;

/// Appends a copy of `bytes`.
#[inline]
pub(crate) fn append(buffer: &mut BytesMut, bytes: &[u8]) {
    if bytes.len() <= STEP {
        buffer.extend_from_slice(bytes);
    } else {
        append_in_steps(buffer, bytes);
    }
}

#[inline(never)]
fn append_in_steps(buffer: &mut BytesMut, bytes: &[u8]) {
    buffer.reserve(bytes.len());
    for step in bytes.chunks(STEP) {
        buffer.extend_from_slice(step);
    }
}

/// Copies `bytes` to memory of exactly that size.
pub(crate) fn copy(bytes: &[u8]) -> BytesMut {
    let mut copy = BytesMut::with_capacity(bytes.len());
    append(&mut copy, bytes);
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_whole_whatever_their_size() {
        for len in [0, 1, STEP - 1, STEP, STEP + 1, 5 * STEP, 5 * STEP + 7] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut appended = BytesMut::from("before");
            append(&mut appended, &bytes);
            assert_eq!(appended, [b"before", &bytes[..]].concat());
            assert_eq!(copy(&bytes), bytes);
        }
    }
}
