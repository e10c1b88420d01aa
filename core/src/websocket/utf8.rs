//! [`Utf8`]: validation of text that arrives in pieces (RFC 6455 section 8.1).

use std::str::from_utf8;

/// Validates UTF-8 that arrives in pieces.
///
/// Pieces may end anywhere, even within a character. After an error, later results are meaningless.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Utf8 {
    /// The beginning of an incomplete character, with room for its last byte.
    begun: [u8; 4],
    /// Bytes in `begun`: at most 3, since 4 are a character or an error.
    length: u8,
}

impl Utf8 {
    /// Checks the next piece.
    ///
    /// Fails at the first invalid byte, as soon as nothing that follows could make the text valid, even if
    /// the piece ends within a sequence.
    pub(crate) fn push(&mut self, mut piece: &[u8]) -> Result<(), InvalidUtf8> {
        while !self.is_complete() {
            let Some((&byte, rest)) = piece.split_first() else { return Ok(()) };
            self.push_byte(byte)?;
            piece = rest;
        }
        match from_utf8(piece) {
            Ok(_) => Ok(()),
            // The rest begins a character, with at most 3 bytes, or has an invalid byte among its first 4.
            Err(error) => piece[error.valid_up_to()..].iter().try_for_each(|&byte| self.push_byte(byte)),
        }
    }

    /// Whether the text so far ends between two characters.
    pub(crate) fn is_complete(&self) -> bool {
        self.length == 0
    }

    fn push_byte(&mut self, byte: u8) -> Result<(), InvalidUtf8> {
        let length = usize::from(self.length);
        self.begun[length] = byte;
        match from_utf8(&self.begun[..=length]) {
            Ok(_) => self.length = 0,
            Err(error) if error.error_len().is_none() => self.length += 1,
            Err(_) => return Err(InvalidUtf8),
        }
        Ok(())
    }
}

/// The text is not UTF-8, whatever follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidUtf8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that are valid as a whole.
    const VALID: &[&[u8]] = &[
        b"",
        b"Hello",
        "κόσμε".as_bytes(),
        "Hello-µ@ßöäüàá-UTF-8!!".as_bytes(),
        "a\u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}".as_bytes(),
        "\u{d7ff}\u{e000}\u{fffd}\u{feff}".as_bytes(),
        // Noncharacters are valid in UTF-8.
        "\u{fdd0}\u{fdef}\u{fffe}\u{ffff}".as_bytes(),
        "\u{1fffe}\u{2ffff}\u{8fffe}\u{efffe}\u{fffff}\u{10fffe}".as_bytes(),
    ];

    /// Invalid texts, with the number of their bytes that could still become valid.
    const INVALID: &[(&[u8], usize)] = &[
        // Truncated.
        (b"\xc3", 1),
        (b"\xe0\xa0", 2),
        (b"\xed\x9f", 2),
        (b"a\xef\xbf", 3),
        (b"\xf0\x90", 2),
        (b"\xf4\x8f\xbf", 3),
        ("κόσμε\u{10ffff}".as_bytes().split_at(13).0, 13),
        // Truncated, and then something else.
        (b"\xc3a", 1),
        (b"\xe2\x82a", 2),
        (b"\xf0\x9f\x98a", 3),
        (b"\xf0\x9f\x98\xf0\x9f\x98\x80", 3),
        // Continuation bytes alone, or one too many.
        (b"\x80", 0),
        (b"\xbf", 0),
        (b"abc\x80\x80", 3),
        (b"\xc2\x80\x80", 2),
        (b"\xf4\x8f\xbf\xbf\xbf", 4),
        // Overlong.
        (b"\xc0\xaf", 0),
        (b"\xc1\xbf", 0),
        (b"\xe0\x80\xaf", 1),
        (b"\xe0\x9f\xbf", 1),
        (b"\xf0\x80\x80\xaf", 1),
        (b"\xf0\x8f\xbf\xbf", 1),
        // Surrogates.
        (b"\xed\xa0\x80", 1),
        (b"\xed\xaf\xbf\xed\xbf\xbf", 1),
        (b"\xce\xba\xed\xa0\x80edited", 3),
        // Above U+10FFFF.
        (b"\xf4\x90\x80\x80", 1),
        (b"\xce\xba\xf4\x90\x80\x80edited", 3),
        (b"\xf5\x80\x80\x80", 0),
        (b"\xf7\xbf\xbf\xbf", 0),
        // Forms of 5 and 6 bytes, and bytes that are in no form.
        (b"\xf8\x88\x80\x80\x80", 0),
        (b"\xf8\x80\x80\x80\xaf", 0),
        (b"\xfb\xbf\xbf\xbf\xbf", 0),
        (b"\xfc\x84\x80\x80\x80\x80", 0),
        (b"\xfd\xbf\xbf\xbf\xbf\xbf", 0),
        (b"\xfe", 0),
        (b"ab\xff", 2),
        // Far from the beginning, where the standard library proceeds by words.
        (b"0123456789012345678901234567890123456789\xe2\x82\xacabc\xed\xb0\x80", 47),
    ];

    /// Whether something could follow `prefix` that makes it valid.
    fn is_possible(prefix: &[u8]) -> bool {
        from_utf8(prefix).map_or_else(|error| error.error_len().is_none(), |_| true)
    }

    /// The number of bytes of `text` before the one that makes it invalid.
    fn possible_bytes(text: &[u8]) -> usize {
        (0..text.len()).find(|&n| !is_possible(&text[..=n])).unwrap_or(text.len())
    }

    /// Pushes `text` in pieces that end at `ends` and at its own end.
    fn check(text: &[u8], possible: usize, ends: &[usize]) {
        let mut utf8 = Utf8::default();
        let mut start = 0;
        for &end in ends.iter().chain([&text.len()]) {
            let verdict = utf8.push(&text[start..end]);
            let expected = if end <= possible { Ok(()) } else { Err(InvalidUtf8) };
            assert_eq!(verdict, expected, "{text:x?}, {start}..{end} of {ends:?}");
            if verdict.is_err() {
                return;
            }
            let complete = from_utf8(&text[..end]).is_ok();
            assert_eq!(utf8.is_complete(), complete, "{text:x?}, {start}..{end} of {ends:?}");
            start = end;
        }
    }

    fn check_byte_by_byte(text: &[u8]) {
        check(text, possible_bytes(text), &(0..text.len()).collect::<Vec<_>>());
    }

    fn check_every_split(text: &[u8]) {
        let possible = possible_bytes(text);
        for first in 0..=text.len() {
            for second in first..=text.len() {
                check(text, possible, &[first, second]);
            }
        }
    }

    #[test]
    fn valid_texts_are_valid_however_they_are_split() {
        for text in VALID {
            assert!(from_utf8(text).is_ok(), "{text:x?}");
            check_every_split(text);
            check_byte_by_byte(text);
        }
    }

    #[test]
    fn invalid_texts_fail_at_the_first_bad_byte_however_they_are_split() {
        for &(text, possible) in INVALID {
            assert!(from_utf8(text).is_err(), "{text:x?}");
            assert_eq!(possible_bytes(text), possible, "{text:x?}");
            check_every_split(text);
            check_byte_by_byte(text);
        }
    }

    #[test]
    fn an_error_does_not_wait_for_the_end_of_the_sequence() {
        for piece in
            [&b"\xf4\x90"[..], b"\xed\xa0", b"\xe0\x80", b"\xf0\x80", b"\xc0", b"\xc1", b"\xf5", b"\xff"]
        {
            assert_eq!(Utf8::default().push(piece), Err(InvalidUtf8), "{piece:x?}");
        }
    }

    /// Covers both sides of every border between the kinds of bytes, in all sequences of 4.
    #[test]
    fn all_sequences_of_bytes_at_the_borders() {
        const BORDERS: [u8; 20] = [
            0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee,
            0xf0, 0xf1, 0xf4, 0xf5,
        ];
        for i in 0..BORDERS.len().pow(4) {
            let text = [1, 20, 400, 8000].map(|place| BORDERS[i / place % BORDERS.len()]);
            let possible = possible_bytes(&text);
            for ends in [&[][..], &[1], &[2], &[3], &[1, 2], &[1, 3], &[2, 3], &[1, 2, 3]] {
                check(&text, possible, ends);
            }
        }
    }

    #[test]
    fn long_mixtures_in_pieces_of_any_length() {
        let mut random = Random(7);
        let (mut valid, mut invalid) = (0, 0);
        for _ in 0..5000 {
            let mut text = Vec::new();
            for _ in 0..random.below(12) {
                text.extend_from_slice(VALID[random.below(VALID.len())]);
            }
            if !text.is_empty() && random.below(2) == 0 {
                let at = random.below(text.len());
                text[at] = random.below(256) as u8;
            }
            let mut ends: Vec<_> = (0..random.below(8)).map(|_| random.below(text.len() + 1)).collect();
            ends.sort_unstable();
            check(&text, possible_bytes(&text), &ends);
            *if from_utf8(&text).is_ok() { &mut valid } else { &mut invalid } += 1;
        }
        assert!(valid > 1000 && invalid > 1000, "{valid} valid, {invalid} invalid");
    }

    #[test]
    fn what_follows_an_error_does_no_harm() {
        for &(text, _) in INVALID {
            let mut utf8 = Utf8::default();
            for _ in 0..3 {
                for byte in text {
                    let _ = utf8.push(&[*byte]);
                }
                let _ = utf8.push(text);
            }
        }
    }

    #[test]
    fn the_state_is_small() {
        assert!(size_of::<Utf8>() <= 8);
    }

    /// Numbers that look random (a multiplicative congruential generator).
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
            (self.0 >> 33) as usize % limit
        }
    }
}
