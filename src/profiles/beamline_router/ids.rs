//! The forms of ids that the router checks: UUIDs of version 4 (RFC 9562 section 5.4) and ULIDs.

use serde_json::value::RawValue;

/// Whether a value is a text that holds a UUID of version 4 or a ULID.
pub(super) fn is_flow_id(value: &RawValue) -> bool {
    let text = value.get().strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    text.is_some_and(|text| is_uuid_4(text) || is_ulid(text))
}

fn is_uuid_4(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            14 => *byte == b'4',
            19 => matches!(byte.to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b'),
            _ => byte.is_ascii_hexdigit(),
        })
}

/// 26 digits of Crockford's base 32 that hold 128 bits: no I, L, O or U, and the first at most 7.
fn is_ulid(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase() && !b"ILOU".contains(&byte);
    text.len() == 26 && text.as_bytes()[0] <= b'7' && text.bytes().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_of_two_forms() {
        for good in ["4fa5854b-ba02-4886-a826-f94efb1a0ad3", "01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
            assert!(is_uuid_4(good) || is_ulid(good), "{good}");
        }
        for bad in [
            "",
            "4fa5854b-ba02-1886-a826-f94efb1a0ad3",
            "4fa5854b-ba02-4886-c826-f94efb1a0ad3",
            "4fa5854bba024886a826f94efb1a0ad3",
            "81ARZ3NDEKTSV4RRFFQ69G5FAV",
            "01ARZ3NDEKTSV4RRFFQ69G5FAU",
            "01ARZ3NDEKTSV4RRFFQ69G5FA",
        ] {
            assert!(!is_uuid_4(bad) && !is_ulid(bad), "{bad}");
        }
    }
}
