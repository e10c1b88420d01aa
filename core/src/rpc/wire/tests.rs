use bytes::BytesMut;

use super::*;

fn decode(bytes: &[u8]) -> Result<Decoded<Frame>, FramesError> {
    Frames::new().decode(&mut Source::new(&mut BytesMut::from(bytes)))
}

/// The first bytes of other protocols, and the number of them that decides.
#[test]
fn other_protocols_are_named_as_soon_as_they_show() {
    let unknown = |at, byte| FramesError::Unknown { at, byte };
    let others: [(&[u8], FramesError); 16] = [
        (b"\x16\x03", FramesError::Tls),
        (b"\x15\x03", FramesError::Tls),
        (b"\x16\x04", unknown(1, 4)),
        (b"G", FramesError::Http),
        (b"P", FramesError::Http),
        (b"H", FramesError::Http),
        (b"g", FramesError::Http),
        (b"\x05\x09\x16\x20", FramesError::GoGetty),
        (b"\x05\x01", unknown(1, 1)),
        (b"\x05\x09\x16\x21", unknown(3, 0x21)),
        (b"{", FramesError::Json),
        (b"[", FramesError::Json),
        (b"\0", unknown(0, 0)),
        (b"\xfag\0", unknown(2, 0)),
        (b"\xfagtz", unknown(3, b'z')),
        (b"\xfb", unknown(0, 0xfb)),
    ];
    for (bytes, error) in others {
        assert_eq!(decode(bytes), Err(error), "{bytes:x?}");
        let longer = [bytes, &[0; 20]].concat();
        assert_eq!(decode(&longer), Err(error), "{bytes:x?}");
        let all_but_one = &bytes[..bytes.len() - 1];
        assert_eq!(decode(all_but_one), Ok(Decoded::Need(1)));
    }
}
