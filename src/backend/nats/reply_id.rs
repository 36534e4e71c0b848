//! The text of reply subjects: a token nobody can guess, and ids of a fixed width.
//!
//! Fixed width and hex because a reply's place in the slab is then read in one pass over 16 bytes.

/// Hex digits of an id.
pub(super) const ID_LEN: usize = 16;
/// Characters of a token: 22 of 62 are 131 bits.
pub(super) const TOKEN_LEN: usize = 22;

/// The digits of an id.
pub(super) fn encode(id: u64) -> [u8; ID_LEN] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; ID_LEN];
    for (index, byte) in id.to_be_bytes().into_iter().enumerate() {
        text[index * 2] = DIGITS[usize::from(byte >> 4)];
        text[index * 2 + 1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// The id of digits as [`encode`] writes them; `None` for anything else.
pub(super) fn decode(text: &[u8]) -> Option<u64> {
    let text: &[u8; ID_LEN] = text.try_into().ok()?;
    text.iter().try_fold(0, |id, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(id << 4 | u64::from(digit))
    })
}

/// A new token, from the system's own randomness.
pub(super) fn token() -> [u8; TOKEN_LEN] {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut token = [0; TOKEN_LEN];
    let mut filled = 0;
    while filled < TOKEN_LEN {
        let mut random = [0; 32];
        getrandom::fill(&mut random).expect("the system has random bytes");
        // 248 is the greatest multiple of 62 in a byte: what is above would favour the first letters.
        for byte in random.into_iter().filter(|&byte| byte < 248).take(TOKEN_LEN - filled) {
            token[filled] = LETTERS[usize::from(byte % 62)];
            filled += 1;
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_are_of_letters_and_digits_and_differ() {
        let (one, two) = (token(), token());
        assert_ne!(one, two);
        assert!(one.iter().chain(&two).all(u8::is_ascii_alphanumeric));
    }

    proptest! {
        #[test]
        fn ids_survive_the_wire(id in any::<u64>()) {
            prop_assert_eq!(decode(&encode(id)), Some(id));
        }

        #[test]
        fn any_text_is_an_id_or_none(text in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Some(id) = decode(&text) {
                prop_assert_eq!(&encode(id)[..], &text[..]);
            }
        }
    }
}
