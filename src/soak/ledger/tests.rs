//! Histories made up: a true one passes, and each kind of breach is found in one that has it.

use super::*;

const TERMS: Terms =
    Terms { patience: Duration::from_secs(10), horizon: Duration::from_secs(30), entries_max: 100 };
const NOT_SENT: Answer = Answer::Failed(Kind::Unavailable, Outcome::NotSent);
const UNKNOWN: Answer = Answer::Failed(Kind::TimedOut, Outcome::Unknown);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn asking(door: Via) -> Asking {
    Asking { door, idempotent: false, wants_no: false, timed: true }
}

/// A ledger in which request 0 was asked by the Unix socket at the start.
fn asked() -> Ledger {
    let mut ledger = Ledger::new(TERMS);
    assert_eq!(ledger.ask(asking(Via::Unix), seconds(0)), Some(0));
    ledger
}

/// The breaches that are found once everything is closed.
fn closed(mut ledger: Ledger) -> Vec<Breach> {
    ledger.close();
    assert_eq!(ledger.entries.len(), 0);
    assert_eq!(ledger.breaches().values().sum::<u64>(), ledger.findings().len() as u64);
    ledger.findings().iter().map(|finding| finding.breach).collect()
}

fn told(ledger: &mut Ledger, answer: Answer) {
    ledger.told(Via::Unix, Some(0), answer, seconds(1));
}

#[test]
fn what_agrees_is_no_breach() {
    let mut ledger = asked();
    ledger.seen(0, seconds(1));
    told(&mut ledger, Answer::Reply(Some(0)));
    assert_eq!(closed(ledger), []);

    // An error of each outcome, with all that the responder may have seen then.
    let mut ledger = asked();
    told(&mut ledger, NOT_SENT);
    assert_eq!(closed(ledger), []);
    for seen in 0..=1 {
        let mut ledger = asked();
        told(&mut ledger, UNKNOWN);
        (0..seen).for_each(|_| ledger.seen(0, seconds(2)));
        assert_eq!(closed(ledger), []);
    }
    let mut ledger = Ledger::new(TERMS);
    ledger.ask(Asking { wants_no: true, ..asking(Via::Unix) }, seconds(0)).unwrap();
    ledger.seen(0, seconds(0));
    told(&mut ledger, Answer::Failed(Kind::Failed, Outcome::Done));
    assert_eq!(closed(ledger), []);

    // Nothing is owed to who went away.
    let mut ledger = asked();
    ledger.left(0);
    ledger.seen(0, seconds(2));
    assert_eq!(closed(ledger), []);
}

#[test]
fn a_second_answer_is_found() {
    let mut ledger = asked();
    ledger.seen(0, seconds(0));
    told(&mut ledger, Answer::Reply(Some(0)));
    told(&mut ledger, UNKNOWN);
    assert_eq!(closed(ledger), [Breach::SecondAnswer]);

    // Also when the request was closed meanwhile.
    let mut ledger = asked();
    told(&mut ledger, UNKNOWN);
    ledger.sweep(seconds(31));
    assert_eq!(ledger.entries.len(), 0);
    ledger.told(Via::Unix, Some(0), Answer::Reply(Some(0)), seconds(31));
    assert_eq!(closed(ledger), [Breach::SecondAnswer]);
}

#[test]
fn a_foreign_answer_is_found() {
    let foreign: [fn(&mut Ledger); 5] = [
        // The answer of another request; of none; to a request of another door; a no where a yes was due.
        |ledger| told(ledger, Answer::Reply(Some(1))),
        |ledger| told(ledger, Answer::Reply(None)),
        |ledger| ledger.told(Via::Http, Some(0), Answer::Reply(Some(0)), seconds(1)),
        |ledger| told(ledger, Answer::Failed(Kind::Failed, Outcome::Done)),
        |ledger| {
            told(ledger, Answer::Reply(Some(0)));
            ledger.told(Via::Unix, None, UNKNOWN, seconds(1));
        },
    ];
    for wrong in foreign {
        let mut ledger = asked();
        ledger.seen(0, seconds(0));
        wrong(&mut ledger);
        let breaches = closed(ledger);
        assert!(breaches.contains(&Breach::ForeignAnswer), "{breaches:?}");
    }
    // A yes where a no was due, and what was never asked.
    let mut ledger = Ledger::new(TERMS);
    ledger.ask(Asking { wants_no: true, ..asking(Via::Unix) }, seconds(0)).unwrap();
    ledger.seen(0, seconds(0));
    told(&mut ledger, Answer::Reply(Some(0)));
    ledger.told(Via::Unix, Some(7), UNKNOWN, seconds(1));
    ledger.seen(8, seconds(1));
    assert_eq!(closed(ledger), [Breach::ForeignAnswer; 3]);
}

#[test]
fn not_sent_and_seen_is_found_in_either_order() {
    let mut ledger = asked();
    told(&mut ledger, NOT_SENT);
    ledger.seen(0, seconds(2));
    assert_eq!(closed(ledger), [Breach::NotSentButSeen]);
    let mut ledger = asked();
    ledger.seen(0, seconds(0));
    told(&mut ledger, NOT_SENT);
    assert_eq!(closed(ledger), [Breach::NotSentButSeen]);
}

#[test]
fn answered_and_never_seen_is_found() {
    let mut ledger = asked();
    told(&mut ledger, Answer::Reply(Some(0)));
    ledger.sweep(seconds(30));
    assert_eq!(ledger.findings().len(), 0, "the responder may be heard later than the client");
    ledger.sweep(seconds(31));
    assert_eq!(closed(ledger), [Breach::AnsweredButNotSeen]);
}

#[test]
fn a_missing_answer_is_found_once_and_named() {
    let mut ledger = Ledger::new(TERMS);
    ledger.set_fault(Some("nats-killed"));
    ledger.ask(asking(Via::Grpc), seconds(1)).unwrap();
    ledger.set_fault(None);
    ledger.sweep(seconds(11));
    assert_eq!(ledger.findings().len(), 0);
    ledger.sweep(seconds(12));
    ledger.sweep(seconds(13));
    let [finding] = ledger.findings() else { panic!("{:?}", ledger.findings()) };
    let text = finding.to_string();
    for part in ["no_answer at 12.000 s", "request 0", "door grpc", "fault nats-killed"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert_eq!(closed(ledger), [Breach::NoAnswer]);
}

#[test]
fn what_is_not_idempotent_and_seen_twice_is_found() {
    let mut ledger = asked();
    ledger.ask(Asking { idempotent: true, ..asking(Via::Unix) }, seconds(0)).unwrap();
    for number in [0, 1, 0, 1] {
        ledger.seen(number, seconds(1));
    }
    for number in [0, 1] {
        ledger.told(Via::Unix, Some(number), Answer::Reply(Some(number)), seconds(1));
    }
    assert_eq!(closed(ledger), [Breach::SeenTwice]);
}

#[test]
fn what_is_seen_after_it_was_closed_is_found() {
    let mut ledger = asked();
    told(&mut ledger, UNKNOWN);
    ledger.sweep(seconds(31));
    ledger.seen(0, seconds(32));
    assert_eq!(closed(ledger), [Breach::SeenLate]);
}

#[test]
fn memory_is_bounded_and_findings_are() {
    let mut ledger = Ledger::new(Terms { entries_max: 3, ..TERMS });
    for _ in 0..3 {
        ledger.ask(asking(Via::Unix), seconds(0)).unwrap();
    }
    assert_eq!((ledger.ask(asking(Via::Unix), seconds(0)), ledger.held_back()), (None, 1));
    ledger.sweep(seconds(31));
    assert_eq!(ledger.ask(asking(Via::Unix), seconds(31)), Some(3));
    for _ in 0..2 * FINDINGS_MAX {
        ledger.seen(0, seconds(32));
    }
    assert_eq!(ledger.findings().len(), FINDINGS_MAX);
    assert_eq!(ledger.breaches()[&Breach::SeenLate], 2 * FINDINGS_MAX as u64);
}

#[test]
fn a_door_has_recovered_when_it_answered_what_was_asked_since() {
    let mut ledger = asked();
    ledger.expect_recovery(seconds(5));
    ledger.seen(0, seconds(6));
    ledger.told(Via::Unix, Some(0), Answer::Reply(Some(0)), seconds(6));
    assert_eq!(ledger.lacking(&[Via::Unix]), Some(Via::Unix), "it was asked before");
    ledger.ask(asking(Via::Unix), seconds(7)).unwrap();
    ledger.told(Via::Unix, Some(1), Answer::Reply(Some(1)), seconds(7));
    assert_eq!(ledger.lacking(&[Via::Unix]), None);
    assert_eq!(ledger.lacking(&[Via::Unix, Via::Http]), Some(Via::Http));
}
