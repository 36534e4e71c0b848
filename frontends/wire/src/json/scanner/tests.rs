//! Every split of a text must give the same boundaries as the whole, and the boundaries must be `serde_json`'s.

use proptest::prelude::*;
use serde_json::Value;

use super::super::{DEPTH_MAX, validate};
use super::*;

/// What a whole stream of bytes held, by offsets from its start.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Document { end: usize },
    Broken { why: Flaw, at: usize },
}

/// Feeds the pieces as a connection would, resynchronizing after what is broken.
fn feed<'a>(mut scanner: Scanner, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Found> {
    let (mut found, mut before, mut resync) = (Vec::new(), 0, None::<Resync>);
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() {
            if let Some(skipping) = &mut resync {
                let Some(skipped) = skipping.skip(&piece[at..]) else { break };
                at += skipped;
                resync = None;
            }
            match scanner.scan(&piece[at..]) {
                Scan::Incomplete => break,
                Scan::Complete { end } => {
                    at += end;
                    found.push(Found::Document { end: before + at });
                }
                Scan::Broken { why, at: wrong } => {
                    at += wrong;
                    found.push(Found::Broken { why, at: before + at });
                    resync = Some(Resync::default());
                }
            }
        }
        before += piece.len();
    }
    if let Scan::Complete { end: 0 } = scanner.finish() {
        found.push(Found::Document { end: before });
    }
    found
}

fn scanner() -> Scanner {
    Scanner::new(1 << 20, DEPTH_MAX)
}

/// The first thing found.
fn first(text: &[u8]) -> Scan {
    scanner().scan(text)
}

#[test]
fn finds_the_end_of_each_kind_of_value() {
    for (text, end) in [
        (&b"{\"a\":\"}\\\"\"}x"[..], 11),
        (b"[[],[\"]\"]]{", 10),
        (b"\"a\\\\\"\"", 5),
        (b"\"a\\\"b\" ", 6),
        (b" \r\n\t{}{}", 6),
        (b"-1.5e3\n{}", 6),
        (b"null\r\n", 4),
    ] {
        assert_eq!(first(text), Scan::Complete { end }, "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn a_bracket_that_is_missing_or_wrong_does_not_swallow_what_follows() {
    for (text, at) in [
        (&b"{\"a\":[1}\n{\"b\":2}\n"[..], 7),
        (b"[{\"a\":1]}\n", 7),
        (b"{bad\n{\"b\":2}\n", 1),
        (b"{\"a\":1\n{\"b\":2}\n", 7),
        (b"{\"a\"\n{\"b\":2}\n", 5),
        (b"{\"a\":[1,2\n{\"b\":2}\n", 10),
        (b"{\"a\":1,{\"b\":2}\n", 7),
        (b"[1:2]\n", 2),
        (b"[\"a\" \"b\"]\n", 5),
    ] {
        let broken = Scan::Broken { why: Flaw::NotJson, at };
        assert_eq!(first(text), broken, "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn a_bare_value_ends_with_white_space_or_the_input() {
    let mut scanner = scanner();
    assert_eq!(scanner.scan(b"12"), Scan::Incomplete);
    assert_eq!(scanner.scan(b"3"), Scan::Incomplete);
    assert_eq!(scanner.scan(b" 4"), Scan::Complete { end: 0 });
    assert_eq!(scanner.scan(b" 4"), Scan::Incomplete);
    assert!(!scanner.is_between());
    assert_eq!(scanner.finish(), Scan::Complete { end: 0 });
    assert!(scanner.is_between());
    assert_eq!(scanner.finish(), Scan::Incomplete);
    assert_eq!(scanner.scan(b"{"), Scan::Incomplete);
    assert_eq!(scanner.finish(), Scan::Incomplete);
}

#[test]
fn refuses_at_once_what_no_json_has_there() {
    for (text, why, at) in [
        (&b"GET / HTTP/1.1\r\n"[..], Flaw::NotJson, 0),
        (b"  \0", Flaw::NotJson, 2),
        (b"}", Flaw::NotJson, 0),
        (b"\xef\xbb\xbf{}", Flaw::NotJson, 0),
        (b"{\"a\":\0}", Flaw::NotJson, 5),
        (b"{\"a\":\xc3\xa9}", Flaw::NotJson, 5),
        (b"{'a':1}", Flaw::NotJson, 1),
        (b"12,", Flaw::NotJson, 2),
        (b"true{}", Flaw::NotJson, 4),
        (b"{\"a\n", Flaw::ControlInString, 3),
        (b"\"\\\n", Flaw::ControlInString, 2),
    ] {
        assert_eq!(first(text), Scan::Broken { why, at }, "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn an_open_quote_costs_its_own_line_and_no_more() {
    let text = b"{\"a\": \"true}\n{\"b\":1}\n";
    let found = feed(scanner(), [&text[..]]);
    assert_eq!(found, [Found::Broken { why: Flaw::ControlInString, at: 12 }, Found::Document { end: 20 }]);
}

#[test]
fn a_document_of_exactly_the_limit_passes() {
    let limit = |bytes_max| Scanner::new(bytes_max, DEPTH_MAX);
    let large = |bytes_max, at| Scan::Broken { why: Flaw::TooLarge { bytes_max }, at };
    for text in [&b"  [\"abcd\"] "[..], b"  12345678 ", b"  \"abcdef\""] {
        assert_eq!(limit(8).scan(text), Scan::Complete { end: 10 });
        assert_eq!(limit(7).scan(text), large(7, 9));
        let mut bytewise = limit(7);
        let outcomes: Vec<_> = text.iter().map(|byte| bytewise.scan(&[*byte])).collect();
        assert_eq!(outcomes[9], large(7, 0));
        assert!(outcomes[..9].iter().all(|scan| *scan == Scan::Incomplete));
    }
    assert_eq!(limit(0).scan(b" {}"), large(0, 1));
    // White space is not a document, and has no limit.
    let mut scanner = limit(2);
    assert_eq!(scanner.scan(&[b' '; 100]), Scan::Incomplete);
    assert!(scanner.is_between());
    assert_eq!(scanner.scan(b"[]"), Scan::Complete { end: 2 });
}

#[test]
fn nesting_of_exactly_the_limit_passes() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(first(nested(DEPTH_MAX).as_bytes()), Scan::Complete { end: 2 * DEPTH_MAX });
    let why = Flaw::TooDeep { depth_max: DEPTH_MAX };
    assert_eq!(first(nested(DEPTH_MAX + 1).as_bytes()), Scan::Broken { why, at: DEPTH_MAX });
    assert_eq!(first("{\"a\":".repeat(1_000_000).as_bytes()), Scan::Broken { why, at: 5 * DEPTH_MAX });
    // Closing gives the depth back.
    let wide = format!("[{}0]", "[[]],".repeat(500));
    assert_eq!(Scanner::new(1 << 20, 3).scan(wide.as_bytes()), Scan::Complete { end: wide.len() });
}

#[test]
fn one_byte_at_a_time_looks_at_each_byte_once() {
    // It holds no bytes, so it can look at none again.
    assert!(size_of::<Scanner>() <= size_of::<[usize; 8]>());
    let bytes_max = 4 << 20;
    let mut text = vec![b'x'; bytes_max];
    text[..6].copy_from_slice(b"{\"a\":\"");
    text[bytes_max - 2..].copy_from_slice(b"\"}");
    let mut scanner = Scanner::new(bytes_max, DEPTH_MAX);
    let last = bytes_max - 1;
    assert!(text[..last].chunks(1).all(|byte| scanner.scan(byte) == Scan::Incomplete));
    assert_eq!(scanner.scan(&text[last..]), Scan::Complete { end: 1 });
}

#[test]
fn resync_goes_through_the_next_newline() {
    let mut resync = Resync::default();
    assert_eq!(resync.skip(b"rubbish"), None);
    assert_eq!(resync.skip(b""), None);
    assert_eq!(resync.skip(b"more\r\n{}\n"), Some(6));
    assert_eq!(resync.skipped_bytes(), 13);
}

#[test]
fn flaws_say_what_the_limit_is() {
    let said = [Flaw::TooDeep { depth_max: 3 }, Flaw::TooLarge { bytes_max: 9 }].map(|flaw| flaw.to_string());
    assert_eq!(said, ["JSON nested deeper than 3", "a JSON document of more than 9 bytes"]);
}

/// Any JSON value, not too large.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        proptest::collection::vec(any::<char>(), 0..6)
            .prop_map(|text| Value::from(text.into_iter().collect::<String>())),
        Just(Value::from("\"}\\{][\u{1}\n")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = proptest::collection::vec(any::<char>(), 0..4).prop_map(|key| key.into_iter().collect());
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..4)
                .prop_map(|entries: Vec<(String, Value)>| entries.into_iter().collect()),
        ]
    })
}

/// Documents with white space between them, on one or on many lines; and where each ends.
fn stream() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let blanks = prop_oneof![Just("\n"), Just(" "), Just("\r\n\t ")];
    proptest::collection::vec((value(), any::<bool>(), blanks), 0..5).prop_map(|documents| {
        let (mut text, mut ends) = (Vec::new(), Vec::new());
        for (value, pretty, blanks) in documents {
            let write = if pretty { serde_json::to_vec_pretty } else { serde_json::to_vec };
            text.extend(write(&value).unwrap());
            ends.push(text.len());
            text.extend(blanks.as_bytes());
        }
        (text, ends)
    })
}

/// The pieces between these places.
fn pieces<'a>(text: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

/// Bytes that are nearly JSON, so that every state is reached.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(proptest::sample::select(&b"{}[]\"\\:,1e-tn \n\0\xc3"[..]), 0..40)
}

proptest! {
    #[test]
    fn finds_the_documents_that_serde_finds((text, ends) in stream()) {
        let mut documents = serde_json::Deserializer::from_slice(&text).into_iter::<Value>();
        let mut theirs = Vec::new();
        while let Some(document) = documents.next() {
            document.unwrap();
            theirs.push(documents.byte_offset());
        }
        prop_assert_eq!(&theirs, &ends);
        let ours = feed(scanner(), [&text[..]]);
        prop_assert_eq!(ours, ends.iter().map(|end| Found::Document { end: *end }).collect::<Vec<_>>());
        // And what it cuts out is valid.
        let mut start = 0;
        for end in ends {
            prop_assert_eq!(validate(&text[start..end]), Ok(()));
            start = end;
        }
    }

    #[test]
    fn every_cut_gives_the_same((text, _) in stream()) {
        let whole = feed(scanner(), [&text[..]]);
        prop_assert_eq!(&feed(scanner(), text.chunks(1)), &whole);
        for cut in 0..=text.len() {
            let (left, right) = text.split_at(cut);
            prop_assert_eq!(&feed(scanner(), [left, right]), &whole);
        }
    }

    #[test]
    fn every_cut_of_what_is_nearly_json_gives_the_same(
        text in nearly(),
        bytes_max in 1..40_usize,
        depth_max in 0..4_usize,
        cuts: Vec<prop::sample::Index>,
    ) {
        let scanner = Scanner::new(bytes_max, depth_max);
        let whole = feed(scanner.clone(), [&text[..]]);
        prop_assert_eq!(&feed(scanner.clone(), text.chunks(1)), &whole);
        prop_assert_eq!(&feed(scanner, pieces(&text, &cuts)), &whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(text: Vec<u8>, cuts: Vec<prop::sample::Index>) {
        let whole = feed(scanner(), [&text[..]]);
        prop_assert_eq!(&feed(scanner(), pieces(&text, &cuts)), &whole);
    }
}
