//! Results of both shapes, their duplicates, and what is none.

use bytes::Bytes;
use contract::{Headers, Pattern, Subject, Target};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use proptest::prelude::*;

use super::*;
use crate::testing;

const FLAT: &str = r#"{"version":"1","assignment_id":"a1","request_id":"r1","status":"success","x":[1, 2]}"#;
const INNER: &str = r#"{ "assignment_id":"a1", "request_id":"r1","version":"1.0","status":"success" }"#;

fn enveloped(inner: &str) -> String {
    format!(r#"{{"version":"v1","kind":"exec_result","data":{inner},"meta":{{}}}}"#)
}

fn result(request_id: &str, assignment_id: &str) -> String {
    format!(r#"{{"version":"1","request_id":"{request_id}","assignment_id":"{assignment_id}"}}"#)
}

/// What a subscriber hears of these payloads: `None` is a gap of one.
fn heard(payloads: &[&str], header: Option<&str>, keys_max: usize) -> (Vec<Option<String>>, Arc<Tally>) {
    let mut request = testing::request(Target::Subscribe(Pattern::from_static("results")));
    if let Some(id) = header {
        request.headers.append("beamline-request-id", id.to_owned()).unwrap();
    }
    let settings = Settings { default_tenant: "mine".into(), keys_max };
    let deliveries: Vec<_> = payloads
        .iter()
        .map(|text| {
            let payload = Bytes::copy_from_slice(text.as_bytes());
            let delivery = Delivery::new(Subject::from_static("results"), Headers::new(), payload);
            Ok(Event::Delivery(Arc::new(delivery)))
        })
        .collect();
    let tally = Arc::<Tally>::default();
    let answer = Ok(Reply::Stream(DeliveryStream::new(stream::iter(deliveries))));
    let answer = decode(answer, settings.interest(&request), Arc::clone(&tally)).unwrap();
    let Reply::Stream(results) = answer else { panic!("{answer:?}") };
    let events = async {
        let read = results.map(|event| match event.unwrap() {
            Event::Delivery(delivery) => Some(String::from_utf8(delivery.payload.to_vec()).unwrap()),
            Event::Gap { lost } => {
                assert_eq!(lost, NonZeroU64::new(1));
                None
            }
        });
        read.collect::<Vec<_>>().await
    };
    // Nothing waits here but for its turn.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    (runtime.block_on(events), tally)
}

fn some(texts: &[&str]) -> Vec<Option<String>> {
    texts.iter().map(|text| Some((*text).to_owned())).collect()
}

#[test]
fn both_shapes_come_flat_and_as_they_were_written_and_a_duplicate_comes_once() {
    let in_an_envelope = enveloped(INNER);
    let (told, tally) = heard(&[&in_an_envelope, FLAT, &in_an_envelope], None, 8);
    assert_eq!(told, some(&[INNER]));
    assert_eq!((tally.delivered.get(), tally.duplicate.get(), tally.keys.get()), (1, 2, 0));
    assert_eq!(heard(&[FLAT, &in_an_envelope], None, 8).0, some(&[FLAT]));
    // Two assignments of one request are two results.
    let two = [&*result("r", "1"), &*result("r", "2")];
    assert_eq!(heard(&two, None, 8).0, some(&two));
    // What one id ends with is not what the other begins with.
    let two = [&*result("ab", "c"), &*result("a", "bc")];
    assert_eq!(heard(&two, None, 8).0, some(&two));
}

#[test]
fn a_flat_result_is_handed_on_without_a_copy() {
    let shared = Arc::new(Delivery::new(
        Subject::from_static("results"),
        Headers::new(),
        Bytes::from_static(FLAT.as_bytes()),
    ));
    let request = testing::request(Target::Subscribe(Pattern::from_static("results")));
    let interest = Settings { default_tenant: "mine".into(), keys_max: 1 }.interest(&request);
    let events = stream::iter([Ok(Event::Delivery(Arc::clone(&shared)))]);
    let answer = decode(Ok(Reply::Stream(DeliveryStream::new(events))), interest, Arc::default()).unwrap();
    let Reply::Stream(mut results) = answer else { panic!("{answer:?}") };
    let Event::Delivery(told) = results.next().now_or_never().unwrap().unwrap().unwrap() else { panic!() };
    assert!(Arc::ptr_eq(&told, &shared));
}

#[test]
fn what_is_no_result_is_a_gap() {
    let of_another_kind = enveloped(INNER).replace("exec_result", "heartbeat");
    let of_another_version = FLAT.replace(r#""version":"1""#, r#""version":"2""#);
    let of_a_number = FLAT.replace(r#""version":"1""#, r#""version":1"#);
    let cases = [
        "",
        "x",
        "[]",
        "{}",
        r#"{"version":"1"}"#,
        r#"{"version":"1","request_id":"","assignment_id":null}"#,
        r#"{"version":"v1","kind":"exec_result"}"#,
        r#"{"version":"v1","kind":"exec_result","data":7}"#,
        &of_another_kind,
        &of_another_version,
        &of_a_number,
        &FLAT[..FLAT.len() - 1],
    ];
    let (told, tally) = heard(&cases, None, 8);
    assert_eq!(told, vec![None; cases.len()]);
    assert_eq!(tally.malformed.get(), cases.len() as u64);
    assert_eq!(heard(&[r#"{"version":"1","assignment_id":"a"}"#], None, 8).1.delivered.get(), 1);
}

#[test]
fn a_subscriber_hears_its_own_tenant_and_the_request_that_it_names() {
    let mine = r#"{"version":"1","request_id":"r","tenant_id":"mine"}"#;
    let theirs = r#"{"version":"1","request_id":"r","assignment_id":"9","tenant_id":"theirs"}"#;
    let (told, tally) = heard(&[theirs, mine, FLAT], None, 8);
    assert_eq!((told, tally.other_tenant.get()), (some(&[mine, FLAT]), 1));
    let (told, tally) = heard(&[FLAT, mine, FLAT], Some("r1"), 8);
    assert_eq!((told, tally.other_request.get(), tally.duplicate.get()), (some(&[FLAT]), 1, 1));
    // A name with escapes is the same name.
    let escaped = r#"{"version":"1","request_id":"\u0072\u0031"}"#;
    assert_eq!(heard(&[escaped], Some("r1"), 8).0, some(&[escaped]));
}

#[test]
fn a_backlog_of_other_results_is_passed_in_turns() {
    let others = vec![FLAT; 10 * LEFT_OUT_MAX];
    let mut all = others.clone();
    let last = result("last", "");
    all.push(&last);
    assert_eq!(heard(&all, Some("last"), 8).0, some(&[&last]));
}

proptest! {
    /// Against a list of the last ones.
    #[test]
    fn the_last_so_many_are_remembered_and_no_more(
        keys_max in 1_usize..6,
        ids in prop::collection::vec(0_u8..8, 0..80),
    ) {
        let (mut model, mut expected) = (Vec::new(), Vec::new());
        let texts: Vec<_> = ids.iter().map(|id| result(&id.to_string(), "a")).collect();
        for (id, text) in ids.iter().zip(&texts) {
            if !model.contains(id) {
                model.push(*id);
                expected.push(text.as_str());
                if model.len() > keys_max {
                    model.remove(0);
                }
            }
        }
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let (told, tally) = heard(&texts, None, keys_max);
        prop_assert_eq!(told, some(&expected));
        prop_assert_eq!(tally.keys.get(), 0);
    }

    #[test]
    fn no_bytes_make_it_fail(bytes in any::<Vec<u8>>()) {
        let _ = WorkerResult::read(&bytes);
    }
}
