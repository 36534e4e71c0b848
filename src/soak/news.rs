//! News: numbered messages that are published all the time, and subscribers by every door that see whether each
//! message came once, in order, or was told to be lost.
//!
//! NATS itself may lose messages while its server ends or stands still; then a hole is nobody's fault. At any
//! other time a hole has to be told. And whoever subscribed has to be told when the server was ended, since
//! nobody can know what was lost then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use contract::Outcome;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::breach::Breach;
use super::course::Course;
use crate::client::{Call, Line, Lost, Reach, Say, Via, What};

/// The subject of news.
const NEWS: &str = "soak.news";
/// The time between two messages.
const EVERY: Duration = Duration::from_millis(50);
/// Before another attempt to subscribe.
const AGAIN: Duration = Duration::from_millis(200);
/// Messages not handed on that are remembered, newest first.
const UNSURE_MAX: usize = 65_536;
/// Doors that can subscribe.
pub(super) const DOORS: [Via; 7] =
    [Via::Unix, Via::UnixV1, Via::Json, Via::Ws, Via::WsBinary, Via::Http, Via::Grpc];

/// What became of what was published, and of what was subscribed.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Messages that may not have been handed on.
    unsure: BTreeSet<u64>,
    last: u64,
    pub(super) published: u64,
    pub(super) refused: u64,
    pub(super) delivered: u64,
    /// Gaps that were told.
    pub(super) gaps: u64,
}

/// Publishes until the course is over.
pub(super) async fn publish(course: Arc<Course>, reach: Reach) {
    let door = Via::Unix;
    let mut number = 0;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let over = course.over.clone();
    let publishing = async {
        loop {
            let mut line = match door.open(&reach).await {
                Ok(line) => line,
                Err(lost) => {
                    course.lost(door, &lost);
                    sleep(AGAIN).await;
                    continue;
                }
            };
            loop {
                ticks.tick().await;
                number += 1;
                // One after another, so that it is known what was not handed on before anything later comes.
                if let Err(lost) = tell(&mut *line, &course, number).await {
                    course.lost(door, &lost);
                    break;
                }
            }
        }
    };
    tokio::select! {
        () = over.cancelled() => {}
        () = publishing => {}
    }
}

async fn tell(line: &mut dyn Line, course: &Course, number: u64) -> Result<(), Lost> {
    course.record().begin(number);
    let payload = Bytes::from(format!("{{\"seq\":{number}}}"));
    let call = Call { subject: NEWS.to_owned(), payload, ..Call::default() };
    if line.say(number, &Say::Publish(call)).is_err() {
        return Ok(());
    }
    let patience = course.plan.terms().patience;
    let Ok(heard) = timeout(patience, line.heard()).await else {
        course.find(Breach::NoAnswer, Via::Unix, format!("to the publish of news {number}"));
        return Ok(());
    };
    match heard?.what {
        What::Accepted => course.record().accept(number),
        What::Failed(failure) if failure.outcome != Outcome::Done => {}
        other => course.find(Breach::ForeignAnswer, Via::Unix, format!("to a publish: {other:?}")),
    }
    Ok(())
}

impl Record {
    /// The last message that was published, or was to be.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    fn begin(&mut self, number: u64) {
        self.last = number;
        self.unsure.insert(number);
        self.refused += 1;
        if self.unsure.len() > UNSURE_MAX {
            self.unsure.pop_first();
        }
    }

    fn accept(&mut self, number: u64) {
        self.unsure.remove(&number);
        self.refused -= 1;
        self.published += 1;
    }
}

/// Subscribes by a door until the course is over.
pub(super) async fn subscribe(door: Via, course: Arc<Course>, reach: Reach) {
    let over = course.over.clone();
    let listening = async {
        loop {
            let lost = match door.open(&reach).await {
                Ok(mut line) => listen(&mut *line, door, &course).await,
                Err(lost) => lost,
            };
            course.lost(door, &lost);
            sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = over.cancelled() => {}
        () = listening => {}
    }
}

async fn listen(line: &mut dyn Line, door: Via, course: &Course) -> Lost {
    let say = Say::Subscribe(Call { subject: NEWS.to_owned(), ..Call::default() });
    if let Err(failure) = line.say(1, &say) {
        return Lost::Refused(failure);
    }
    let mut sequence = Sequence::new(course.storms(), course.ends());
    loop {
        let heard = match line.heard().await {
            Ok(heard) => heard,
            Err(lost) => return lost,
        };
        match heard.what {
            What::Accepted => {}
            What::Gap(_) => {
                course.record().gaps += 1;
                sequence.gap(course.ends());
            }
            What::Delivery { payload, .. } => {
                let came = number(&payload).ok_or_else(|| format!("{payload:?} is no news"));
                let (storms, ends) = (course.storms(), course.ends());
                let judged = came.and_then(|number| {
                    let mut record = course.record();
                    record.delivered += 1;
                    sequence.next(number, &record.unsure, storms, ends)
                });
                if let Err(detail) = judged {
                    course.find(Breach::GapUntold, door, detail);
                }
            }
            What::Failed(failure) => return Lost::Refused(failure),
            other => return Lost::Protocol(format!("to a subscriber: {other:?}")),
        }
    }
}

fn number(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    text.strip_prefix("{\"seq\":")?.strip_suffix('}')?.parse().ok()
}

/// How often nats-server was ended, and the last message before it returned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) count: u64,
    pub(super) last_before: u64,
}

/// What a subscription has brought.
#[derive(Debug)]
struct Sequence {
    last: Option<u64>,
    /// Whether a gap was told since then.
    is_told: bool,
    storms: u64,
    /// The ends of the server that were told.
    ends: u64,
}

impl Sequence {
    fn new(storms: u64, ends: Ends) -> Self {
        Self { last: None, is_told: false, storms, ends: ends.count }
    }

    /// Takes a gap, which tells of every end so far.
    fn gap(&mut self, ends: Ends) {
        self.is_told = true;
        self.ends = ends.count;
    }

    /// Takes a message. `unsure` are those that may not have been handed on; `storms` are counted as in
    /// [`Course`]. Says what is wrong with it.
    fn next(&mut self, number: u64, unsure: &BTreeSet<u64>, storms: u64, ends: Ends) -> Result<(), String> {
        let last = self.last.replace(number);
        let is_told = std::mem::take(&mut self.is_told);
        let had_storm = storms % 2 == 1 || self.storms != storms;
        self.storms = storms;
        let had_end =
            number > ends.last_before && std::mem::replace(&mut self.ends, ends.count) != ends.count;
        let Some(last) = last else { return Ok(()) };
        if number <= last {
            return Err(format!("message {number} after {last}"));
        }
        if had_end {
            return Err(format!("nats-server was ended between {last} and {number}, and no gap was told"));
        }
        let lost = (last + 1..number).find(|lost| !unsure.contains(lost));
        match lost {
            Some(lost) if !is_told && !had_storm => {
                Err(format!("message {lost} is missing between {last} and {number}, and no gap was told"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: BTreeSet<u64> = BTreeSet::new();
    const NO_END: Ends = Ends { count: 0, last_before: 0 };

    fn sequence() -> Sequence {
        let mut sequence = Sequence::new(0, NO_END);
        sequence.next(5, &NONE, 0, NO_END).unwrap();
        sequence
    }

    #[test]
    fn a_hole_is_to_be_told() {
        assert_eq!(sequence().next(6, &NONE, 0, NO_END), Ok(()));
        assert!(sequence().next(8, &NONE, 0, NO_END).unwrap_err().contains("message 6 is missing"));
        let mut told = sequence();
        told.gap(NO_END);
        assert_eq!(told.next(8, &NONE, 0, NO_END), Ok(()));
        assert!(told.next(10, &NONE, 0, NO_END).is_err(), "each hole for itself");
    }

    #[test]
    fn a_hole_is_nobodys_fault_in_a_storm_or_when_nothing_was_handed_on() {
        assert_eq!(sequence().next(8, &NONE, 1, NO_END), Ok(()));
        assert_eq!(sequence().next(8, &NONE, 2, NO_END), Ok(()), "one that is over");
        assert_eq!(sequence().next(8, &BTreeSet::from([6, 7]), 0, NO_END), Ok(()));
        assert!(sequence().next(8, &BTreeSet::from([6]), 0, NO_END).unwrap_err().contains("message 7"));
    }

    #[test]
    fn once_and_in_order() {
        assert!(sequence().next(5, &NONE, 0, NO_END).is_err());
        assert!(sequence().next(4, &NONE, 1, NO_END).is_err());
    }

    #[test]
    fn the_end_of_the_server_is_to_be_told_even_when_nothing_was_lost() {
        let end = Ends { count: 1, last_before: 6 };
        assert!(sequence().next(7, &NONE, 2, end).unwrap_err().contains("nats-server was ended"));
        let mut told = sequence();
        assert_eq!(told.next(6, &NONE, 1, end), Ok(()), "handed out before");
        told.gap(end);
        assert_eq!(told.next(7, &NONE, 2, end), Ok(()));
        assert_eq!(told.next(8, &NONE, 2, end), Ok(()), "once");
    }
}
