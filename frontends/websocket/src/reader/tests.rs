//! The reader against frames written by hand.

use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// A client's frame: `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        small @ 0..=125 => frame.push(0x80 | u8::try_from(small).unwrap()),
        medium @ 126..=0xFFFF => {
            frame.push(0xFE);
            frame.extend_from_slice(&u16::try_from(medium).unwrap().to_be_bytes());
        }
        large => {
            frame.push(0xFF);
            frame.extend_from_slice(&(large as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn reader() -> Reader {
    Reader::new(ByteBudget::new(1 << 20), 1 << 17, 10)
}

/// What is found in bytes that come in pieces of `step`.
fn found(reader: &mut Reader, bytes: &[u8], step: usize) -> Vec<String> {
    let mut all = Vec::new();
    for mut piece in bytes.chunks(step) {
        while let Some(found) = reader.take(&mut piece) {
            let broken = matches!(found, Found::Broken(_));
            all.push(match found {
                Found::Message(Message { text, payload, charge }) => {
                    format!("{} {payload:?} {}", if text { "text" } else { "binary" }, charge.is_some())
                }
                Found::Broken(ending) => ending.code.to_string(),
                other => format!("{other:?}"),
            });
            if broken {
                return all;
            }
        }
    }
    all
}

#[test]
fn fragments_make_a_message_with_control_frames_between_them() {
    let bytes = [
        frame(0x01, "h\u{e4}".as_bytes().split_at(2).0),
        frame(0x89, b"are you there"),
        frame(0x00, b"\xa4l"),
        frame(0x80, b"lo"),
        frame(0x82, b""),
        frame(0x8A, b""),
        frame(0x88, b"\x03\xe8"),
    ]
    .concat();
    let expected = [
        "Ping(b\"are you there\")".to_owned(),
        format!("text {:?} true", Bytes::from("h\u{e4}llo")),
        "binary b\"\" true".to_owned(),
        "Pong".to_owned(),
        "Close(b\"\\x03\\xe8\")".to_owned(),
    ];
    for step in 1..bytes.len() {
        let mut reader = reader();
        assert_eq!(found(&mut reader, &bytes, step), expected, "in pieces of {step}");
        assert!(!reader.is_within());
    }
}

#[test]
fn what_breaks_the_protocol_is_told_at_its_first_bytes() {
    let unmasked = vec![0x81, 0x01, b'a'];
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked", unmasked, 1002),
        ("reserved bit 1", vec![0xC1, 0x80], 1002),
        ("reserved bit 3", vec![0x91, 0x80], 1002),
        ("opcode 3", vec![0x83, 0x80], 1002),
        ("opcode 15", vec![0x8F, 0x80], 1002),
        ("a fragmented ping", vec![0x09, 0x80], 1002),
        ("a long ping", vec![0x89, 0xFE], 1002),
        ("a continuation of nothing", vec![0x80, 0x80], 1002),
        ("a message within another", [frame(0x01, b"a"), vec![0x81, 0x80]].concat(), 1002),
        ("the top bit of a length", [&[0x82, 0xFF, 0x80][..], &[0; 11]].concat(), 1002),
        ("every bit of a length", [&[0x82, 0xFF][..], &[0xFF; 12]].concat(), 1002),
        ("a long form of a short length", [&[0x82, 0xFE, 0, 5][..], &[0; 4]].concat(), 1002),
        ("a length over the limit", [&[0x82, 0xFF, 0, 0, 0, 0, 0, 2, 0, 1][..], &MASK].concat(), 1009),
        ("bad UTF-8", frame(0x81, b"\xff"), 1007),
        ("bad UTF-8, before the end", frame(0x01, b"ok \xf5"), 1007),
        ("a character cut at the end", frame(0x81, b"\xc3"), 1007),
    ];
    for (what, bytes, code) in cases {
        for step in [1, bytes.len()] {
            let found = found(&mut reader(), &bytes, step);
            assert_eq!(found, [code.to_string()], "{what}, in pieces of {step}");
        }
    }
}

#[test]
fn fragments_are_counted_and_their_bytes_together_are_bounded() {
    let empty = frame(0x00, b"");
    let flood = [frame(0x01, b""), empty.repeat(1_000_000)].concat();
    assert_eq!(found(&mut reader(), &flood, 8192), ["1008"]);
    let half = vec![b'a'; 1 << 16];
    let bytes = [frame(0x02, &half), frame(0x00, &half), frame(0x80, b"a")].concat();
    assert_eq!(found(&mut reader(), &bytes, 8192), ["1009"]);
}

#[test]
fn a_message_without_memory_is_skipped_and_the_next_one_is_heard() {
    let budget = ByteBudget::new(1000);
    let mut reader = Reader::new(budget.clone(), 1 << 17, 10);
    let start = (0..18).collect::<Vec<u8>>();
    let large = [&start[..], &[b'x'; 5000]].concat();
    let bytes = [frame(0x02, &large[..500]), frame(0x80, &large[500..]), frame(0x82, b"small")].concat();
    for step in [1, 7, 100_000] {
        let expected =
            [format!("binary {:?} false", Bytes::from(start.clone())), "binary b\"small\" true".into()];
        assert_eq!(found(&mut reader, &bytes, step), expected);
    }
    assert_eq!(budget.used(), 0);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic_and_the_same_in_any_pieces(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1_usize..50,
    ) {
        prop_assert_eq!(found(&mut reader(), &bytes, step), found(&mut reader(), &bytes, 300));
    }

    #[test]
    fn a_message_comes_out_as_it_went_in(
        payload in proptest::collection::vec(any::<u8>(), 0..70_000), step in 1_usize..9000,
    ) {
        let mut reader = reader();
        let expected = format!("binary {:?} true", Bytes::from(payload.clone()));
        prop_assert_eq!(found(&mut reader, &frame(0x82, &payload), step), [expected]);
    }
}
