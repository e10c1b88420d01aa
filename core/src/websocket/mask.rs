//! Masking of payloads (RFC 6455 section 5.3).

/// Masks or unmasks a piece of a frame's payload in place; both are the same operation.
///
/// `offset` is the position of the piece in the payload, so that the pieces of a frame can be unmasked as
/// they arrive.
#[inline]
pub(crate) fn mask(payload: &mut [u8], key: [u8; 4], offset: usize) {
    // The key rotated to `offset`, twice. Little-endian, so its first byte is the lowest on any machine.
    let key = u32::from_le_bytes(key).rotate_right(8 * (offset % 4) as u32);
    let key = u64::from(key) << 32 | u64::from(key);
    // Compilers vectorize words, even misaligned ones, but not bytes with a repeating key.
    let mut words = payload.chunks_exact_mut(8);
    for bytes in &mut words {
        let mut word = [0; 8];
        word.copy_from_slice(bytes);
        bytes.copy_from_slice(&(u64::from_le_bytes(word) ^ key).to_le_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.to_le_bytes()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    #[test]
    fn the_example_of_the_rfc() {
        let mut payload = *b"Hello";
        mask(&mut payload, KEY, 0);
        assert_eq!(payload, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        mask(&mut payload, KEY, 0);
        assert_eq!(&payload, b"Hello");
    }

    #[test]
    fn every_length_offset_and_alignment_is_as_defined() {
        let original: Vec<u8> = (0..308).map(|i| (i * 7 % 251) as u8).collect();
        for length in 0..=300 {
            for offset in (0..8).chain([usize::MAX]) {
                for start in 0..8 {
                    let piece = start..start + length;
                    let mut masked = original.clone();
                    mask(&mut masked[piece.clone()], KEY, offset);
                    let mut expected = original.clone();
                    for (i, byte) in expected[piece].iter_mut().enumerate() {
                        *byte ^= KEY[(offset % 4 + i) % 4];
                    }
                    assert_eq!(masked, expected, "{length} bytes at {start}, offset {offset}");
                }
            }
        }
    }

    #[test]
    fn pieces_are_masked_as_the_whole() {
        let mut whole: Vec<u8> = (0..61).collect();
        mask(&mut whole, KEY, 0);
        for split in 0..=61 {
            let mut pieces: Vec<u8> = (0..61).collect();
            let (first, second) = pieces.split_at_mut(split);
            mask(first, KEY, 0);
            mask(second, KEY, split);
            assert_eq!(pieces, whole, "split at {split}");
        }
    }
}
