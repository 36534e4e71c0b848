//! The slab: replies find their slots, late and foreign ones nobody, and what is given back is taken again.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;

use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::super::reply_id::ID_LEN;
use super::*;

fn inbox(slots_max: usize) -> Arc<Inbox> {
    Inbox::new("_INBOX", slots_max, Arc::default())
}

fn reply(subject: Bytes, payload: &str) -> Message {
    Message {
        subject: subject.try_into().unwrap(),
        reply: None,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        headers: None,
        status: None,
        description: None,
        length: 0,
    }
}

fn register(inbox: &Arc<Inbox>) -> Ticket {
    inbox.register(Bytes::from_static(b"work"), Purpose::Request).unwrap()
}

#[test]
fn a_reply_reaches_its_request_once() {
    let inbox = inbox(4);
    let mut ticket = register(&inbox);
    let subject = ticket.reply_subject();
    assert_eq!(subject.len(), "_INBOX".len() + 1 + TOKEN_LEN + 1 + ID_LEN);
    assert!((&mut ticket).now_or_never().is_none());
    inbox.deliver(reply(subject.clone(), "one"));
    inbox.deliver(reply(subject.clone(), "two"));
    assert_eq!((&mut ticket).now_or_never().unwrap().unwrap().payload, "one");
    inbox.deliver(reply(subject.clone(), "three"));
    assert_eq!(inbox.counts.double_replies.get(), 2);
    drop(ticket);
    inbox.deliver(reply(subject, "four"));
    assert_eq!(inbox.counts.late_replies.get(), 1);
    assert_eq!(inbox.used(), 0);
}

#[test]
fn the_acknowledgement_of_a_stream_is_a_reply_only_where_it_is_wanted() {
    let inbox = inbox(1);
    let acknowledgement = r#"{"stream":"S","seq":1}"#;
    for skips in [true, false] {
        let mut ticket = register(&inbox);
        if skips {
            ticket.skip_acknowledgements();
        }
        let subject = ticket.reply_subject();
        inbox.deliver(reply(subject.clone(), acknowledgement));
        inbox.deliver(reply(subject, "answer"));
        let taken = (&mut ticket).now_or_never().unwrap().unwrap().payload;
        assert_eq!(taken, if skips { "answer" } else { acknowledgement });
    }
    assert_eq!(inbox.counts.acknowledgements_skipped.get(), 1);
}

#[test]
fn a_reply_is_charged_while_it_waits_and_refused_when_it_does_not_fit() {
    let inbox = inbox(2);
    let budget = contract::ByteBudget::new(1000);
    inbox.counts.memory.charge_to(&budget);
    let (mut first, mut second) = (register(&inbox), register(&inbox));
    for ticket in [&first, &second] {
        inbox.deliver(reply(ticket.reply_subject(), &"x".repeat(800)));
    }
    assert_eq!(budget.used(), 800);
    assert_eq!((&mut first).now_or_never().unwrap().unwrap().payload.len(), 800);
    assert_eq!((&mut second).now_or_never().unwrap().err(), Some(Fault::NoRoom));
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_late_reply_does_not_reach_the_slots_next_request() {
    let inbox = inbox(1);
    let old = register(&inbox).reply_subject();
    let mut ticket = register(&inbox);
    assert_ne!(old, ticket.reply_subject());
    inbox.deliver(reply(old, "late"));
    assert!((&mut ticket).now_or_never().is_none());
    assert_eq!(inbox.counts.late_replies.get(), 1);
}

#[test]
fn a_full_inbox_refuses_requests_and_still_makes_round_trips() {
    let inbox = inbox(2);
    let held = [register(&inbox), register(&inbox)];
    assert_eq!(inbox.register(Bytes::new(), Purpose::Request).err(), Some(Refusal::Full));
    let ticket = inbox.register_round_trip().unwrap();
    inbox.deliver(reply(ticket.reply_subject(), ""));
    assert_eq!(inbox.used(), 2);
    assert!(ticket.now_or_never().unwrap().is_ok());
    drop(held);
    assert_eq!(inbox.used(), 0);
    let spare: Vec<_> = (0..ROUND_TRIPS_MAX).map(|_| inbox.register_round_trip().unwrap()).collect();
    assert_eq!(inbox.register_round_trip().err(), Some(Refusal::Full));
    assert_eq!(inbox.used(), 0);
    drop(spare);
    assert!(inbox.register_round_trip().is_ok());
}

#[test]
fn closing_fails_each_waiting_request_once() {
    let inbox = inbox(300);
    let tickets: Vec<_> = (0..300).map(|_| register(&inbox)).collect();
    inbox.deliver(reply(tickets[7].reply_subject(), "in time"));
    inbox.close(Fault::Lost);
    for (index, ticket) in tickets.into_iter().enumerate() {
        let told = ticket.now_or_never().unwrap();
        assert_eq!(told.is_ok(), index == 7, "{index}");
    }
    let refused = inbox.register(Bytes::new(), Purpose::Request).err();
    assert_eq!(refused, Some(Refusal::Closed(Fault::Lost)));
    assert_eq!(inbox.used(), 0);
}

#[test]
fn a_denied_subject_fails_its_requests_only() {
    let inbox = inbox(8);
    let denied = register(&inbox);
    let mut other = inbox.register(Bytes::from_static(b"other"), Purpose::Request).unwrap();
    let subjects = |subject: &[u8]| HashSet::from([subject.to_vec()]);
    assert_eq!(inbox.deny(&subjects(b"work")), 1);
    assert_eq!(denied.now_or_never().unwrap().err(), Some(Fault::Denied));
    assert!((&mut other).now_or_never().is_none());
    let round_trip = inbox.register_round_trip().unwrap();
    assert_eq!(inbox.deny(&subjects(&round_trip.reply_subject())), 1);
}

#[test]
fn a_dropped_ticket_leaves_no_waker_behind() {
    let inbox = inbox(1);
    let count = Arc::new(Nothing);
    let waker = Waker::from(count.clone());
    let mut ticket = register(&inbox);
    let subject = ticket.reply_subject();
    assert!(Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)).is_pending());
    drop(ticket);
    inbox.deliver(reply(subject, ""));
    drop(waker);
    assert_eq!(Arc::strong_count(&count), 1);
}

struct Nothing;
impl std::task::Wake for Nothing {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn foreign_subjects_are_counted_and_reach_nobody() {
    let inbox = inbox(2);
    let mut ticket = register(&inbox);
    let good = String::from_utf8(ticket.reply_subject().to_vec()).unwrap();
    let stem = &good[..good.len() - ID_LEN];
    let foreign = [
        stem.to_owned(),
        format!("{stem}0"),
        format!("{stem}{}", "0".repeat(ID_LEN + 1)),
        format!("{stem}{}", "f".repeat(ID_LEN)),
        format!("{stem}{}", "G".repeat(ID_LEN)),
        format!("_INBOX.{}.{}", "0".repeat(TOKEN_LEN), "0".repeat(ID_LEN)),
        // A generation that was never handed out, of a slot that is in use and of one that is not.
        format!("{stem}{}", String::from_utf8_lossy(&reply_id::encode(9 << INDEX_BITS))),
        format!("{stem}{}", String::from_utf8_lossy(&reply_id::encode(1))),
    ];
    for (index, subject) in foreign.iter().enumerate() {
        inbox.deliver(reply(subject.clone().into(), ""));
        assert_eq!(inbox.counts.foreign_replies.get(), index as u64 + 1, "{subject}");
    }
    assert!((&mut ticket).now_or_never().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// 10,000 ids in random order, some dropped before their reply: everyone gets its own and nothing else.
    #[test]
    fn ten_thousand_ids_do_not_cross(seed in any::<u64>()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let inbox = inbox(512);
        let mut waiting: Vec<(Ticket, Bytes)> = Vec::new();
        let mut old: Vec<Bytes> = Vec::new();
        let (mut registered, mut answered, mut late) = (0, 0, 0);
        while registered < 10_000 || !waiting.is_empty() {
            match random.u8(0..4) {
                0 | 1 if registered < 10_000 && waiting.len() < 512 => {
                    let ticket = register(&inbox);
                    let subject = ticket.reply_subject();
                    waiting.push((ticket, subject));
                    registered += 1;
                }
                2 if !waiting.is_empty() => {
                    let (ticket, subject) = waiting.swap_remove(random.usize(..waiting.len()));
                    inbox.deliver(reply(subject.clone(), std::str::from_utf8(&subject).unwrap()));
                    let got = ticket.now_or_never().expect("answered").expect("a reply");
                    prop_assert_eq!(&got.payload, &subject);
                    old.push(subject);
                    answered += 1;
                }
                3 if !waiting.is_empty() && random.u8(0..4) == 0 => {
                    old.push(waiting.swap_remove(random.usize(..waiting.len())).1);
                }
                _ if !old.is_empty() => {
                    let subject = old[random.usize(..old.len())].clone();
                    inbox.deliver(reply(subject, "late"));
                    late += 1;
                }
                _ => {}
            }
        }
        prop_assert!(answered > 0);
        prop_assert_eq!(inbox.counts.late_replies.get(), late);
        prop_assert_eq!(inbox.counts.double_replies.get() + inbox.counts.foreign_replies.get(), 0);
        prop_assert_eq!(inbox.used(), 0);
    }
}
