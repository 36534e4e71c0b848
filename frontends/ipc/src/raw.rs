//! Raw JSON: one JSON object is one task, one line of JSON is its answer (`docs/protocols/ipc.md`); or it is a
//! message of the envelope, told by its `op` (`docs/protocols/json.md`).
//!
//! A document is complete when its value is complete; a newline is usual and not needed. After a bad one,
//! reading goes on behind the next newline.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use contract::{ByteBudget, Charge, Error, Kind};
use wire::json::{self, Decoded, Flaw, Resync, Scan, Scanner};
use wire::{Outbound, Sink};

use crate::exchange::{Answer, Dialect, Push, Said};
use crate::frame::{FRAME_BYTES_MAX, Partial};
use crate::outbox::Outbox;
use crate::v1::{TASK_SUBMIT, error_body};

/// Bytes of the largest document: that of a frame, so that both modes take the same tasks.
const DOCUMENT_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// The dialect.
#[derive(Debug)]
pub(crate) struct RawJson {
    budget: ByteBudget,
    scanner: Scanner,
    document: BytesMut,
    charge: Charge,
    /// The budget had no room for the document: it is scanned and not kept.
    skipped: bool,
    resync: Option<Resync>,
}

impl RawJson {
    pub(crate) fn new(budget: ByteBudget) -> Self {
        Self {
            scanner: Scanner::new(DOCUMENT_BYTES_MAX, json::DEPTH_MAX),
            document: BytesMut::new(),
            charge: budget.charge_always(0),
            skipped: false,
            resync: None,
            budget,
        }
    }

    /// What the end of input says: an unfinished document is told, because its sender waits for an answer.
    pub(crate) fn end(&mut self) -> Option<Said> {
        if let Scan::Complete { .. } = self.scanner.finish() {
            return Some(self.complete());
        }
        let unfinished = !self.scanner.is_between() && self.resync.is_none();
        let text = "Invalid payload: the input ended within a JSON document";
        unfinished.then(|| Said::Last(Answer::Error(Error::new(Kind::Malformed, text))))
    }

    /// Keeps a piece of the document; `is_last` is whether there is no more of it.
    fn keep(&mut self, piece: &[u8], is_last: bool) {
        if self.skipped {
            return;
        }
        let more = piece.len();
        let capacity =
            (self.document.len() + more).max(2 * self.document.capacity().min(DOCUMENT_BYTES_MAX / 2));
        if self.document.capacity() < self.document.len() + more {
            let grown = capacity.saturating_sub(self.charge.bytes());
            let is_whole = is_last && self.document.is_empty();
            if !if is_whole { self.charge.grow_message(grown) } else { self.charge.grow_arriving(grown) } {
                self.skipped = true;
                self.document = BytesMut::new();
                self.charge.shrink(usize::MAX);
                return;
            }
            self.document.reserve(capacity - self.document.len());
        }
        self.document.extend_from_slice(piece);
    }

    fn reset(&mut self) -> (Bytes, Charge, bool) {
        let charge = std::mem::replace(&mut self.charge, self.budget.charge_always(0));
        (std::mem::take(&mut self.document).freeze(), charge, std::mem::take(&mut self.skipped))
    }

    fn complete(&mut self) -> Said {
        let (document, charge, skipped) = self.reset();
        if skipped {
            let text = "the gateway has no memory left for this document; try again later";
            return refused(Error::new(Kind::Overloaded, text));
        }
        match json::decode(document.clone()) {
            Ok(Decoded::Task(payload)) => Said::Task { kind: TASK_SUBMIT, payload, charge: Some(charge) },
            Ok(Decoded::Envelope(inbound)) => Said::Question(inbound, Some(charge)),
            Err(refusal) if refusal.id.is_some() || json::is_envelope(&document) => Said::Misspoken(refusal),
            // Whoever sends bare tasks is answered like one, and in order.
            Err(refusal) => refused(malformed(refusal.error.text())),
        }
    }
}

fn refused(error: Error) -> Said {
    Said::Plain(Answer::Error(error))
}

fn malformed(why: &str) -> Error {
    Error::new(Kind::Malformed, format!("Invalid payload: {why}"))
}

impl Dialect for RawJson {
    fn hear(&mut self, input: &mut &[u8]) -> Option<Said> {
        if let Some(resync) = &mut self.resync {
            let Some(skipped) = resync.skip(input) else {
                *input = &[];
                return None;
            };
            *input = &input[skipped..];
            tracing::debug!(bytes = resync.skipped_bytes(), "skipped what was left of a bad JSON document");
            self.resync = None;
        }
        // White space between documents is no part of one.
        if self.scanner.is_between() {
            *input = &input[json::blank(input)..];
        }
        match self.scanner.scan(input) {
            Scan::Incomplete => {
                let piece = std::mem::take(input);
                self.keep(piece, false);
                None
            }
            Scan::Complete { end } => {
                let (piece, rest) = input.split_at(end);
                *input = rest;
                self.keep(piece, true);
                Some(self.complete())
            }
            Scan::Broken { why, at } => {
                *input = &input[at..];
                self.resync = Some(Resync::default());
                drop(self.reset());
                Some(refused(match why {
                    Flaw::TooLarge { .. } => Error::new(Kind::TooLarge, format!("Frame too large: {why}")),
                    _ => malformed(&why.to_string()),
                }))
            }
        }
    }

    fn answer(&mut self, answer: Answer, outbox: &mut Outbox) {
        let error = match answer {
            Answer::Message(message) => return line(message.payload, outbox),
            Answer::Error(error) => error,
            other => unreachable!("raw JSON says tasks only, so it is never answered {other:?}"),
        };
        match error.as_failed() {
            Some(failed) if !failed.body.is_empty() => line(failed.body.clone(), outbox),
            _ => {
                outbox.copy(error_body(&error, error.kind().row().ipc).as_bytes());
                outbox.copy(b"\n");
            }
        }
    }

    fn acknowledge(&mut self, stream: &str, _: &mut Outbox) {
        unreachable!("raw JSON opens no streams, such as {stream}");
    }

    fn push(&mut self, stream: &str, _: Push<'_>, _: &mut Outbox) {
        unreachable!("raw JSON opens no streams, such as {stream}");
    }

    fn tell(&mut self, told: &Outbound<'_>, outbox: &mut Outbox) -> bool {
        let as_it_is = json::encode(told, DOCUMENT_BYTES_MAX, outbox);
        outbox.copy(b"\n");
        as_it_is
    }

    fn partial(&self) -> Partial {
        if self.scanner.is_between() { Partial::Nothing } else { Partial::Body }
    }
}

/// One JSON value and a newline. What is not JSON is wrapped, so that a reader by lines stays in step.
fn line(payload: Bytes, outbox: &mut Outbox) {
    if json::validate(&payload).is_ok() {
        outbox.share(json::one_line(payload));
    } else {
        outbox.copy(b"{\"ok\":true,\"payload_base64\":\"");
        outbox.share(STANDARD.encode(&payload).into());
        outbox.copy(b"\"}");
    }
    outbox.copy(b"\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything said in `bytes`, fed in pieces of `size`.
    fn hear(bytes: &[u8], size: usize) -> Vec<String> {
        let budget = ByteBudget::new(1 << 30);
        let mut raw = RawJson::new(budget.clone());
        let mut said = Vec::new();
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() {
                match raw.hear(&mut piece) {
                    Some(Said::Task { payload, .. }) => {
                        said.push(String::from_utf8(payload.to_vec()).unwrap());
                    }
                    Some(Said::Plain(Answer::Error(error))) => said.push(error.kind().to_string()),
                    Some(Said::Question(..)) => said.push("question".to_owned()),
                    Some(Said::Misspoken(_)) => said.push("misspoken".to_owned()),
                    Some(other) => panic!("{other:?}"),
                    None => assert!(piece.is_empty()),
                }
            }
        }
        assert_eq!(budget.used(), raw.charge.bytes());
        said
    }

    #[test]
    fn documents_end_where_their_value_ends() {
        let bytes = b" {\"a\":1}\n{\"b\":\"}\"}{\"c\":[{}]}\r\n\r\n";
        for size in 1..bytes.len() {
            assert_eq!(hear(bytes, size), ["{\"a\":1}", "{\"b\":\"}\"}", "{\"c\":[{}]}"], "{size}");
        }
    }

    #[test]
    fn after_a_bad_document_the_next_line_is_read() {
        let bytes = b"{\"a\":1}\n{\"b\":\"\n\"} {\"lost\":1}\n}}{}\n[1]\n{\"a\":1e400}\n{\"a\":\"\\ud800\"}\n{\"c\":1}\n";
        for size in [1, 3, 1000] {
            let said = hear(bytes, size);
            assert_eq!(said.first().unwrap(), "{\"a\":1}");
            assert_eq!(said.last().unwrap(), "{\"c\":1}");
            assert!(said[1..said.len() - 1].iter().all(|text| text == "malformed"), "{said:?}");
        }
    }

    #[test]
    fn only_the_envelopes_own_verbs_make_an_envelope() {
        let said = hear(b"{\"op\":\"request\",\"id\":1,\"subject\":\"a\"}{\"op\":\"move\"}{\"id\":1,\"x\":{\"op\":\"request\"}}{\"op\":\"request\"}", 1000);
        assert_eq!(
            said,
            ["question", "{\"op\":\"move\"}", "{\"id\":1,\"x\":{\"op\":\"request\"}}", "misspoken"]
        );
    }

    #[test]
    fn a_document_without_an_end_is_refused_at_the_limit() {
        let endless = [&b"{\"a\":\""[..], &vec![b'x'; DOCUMENT_BYTES_MAX + 9], b"\"}\n{\"c\":1}\n"].concat();
        assert_eq!(hear(&endless, 65_536), ["too_large", "{\"c\":1}"]);
    }

    #[test]
    fn a_document_over_the_budget_is_skipped() {
        let budget = ByteBudget::new(5000);
        let mut raw = RawJson::new(budget.clone());
        let large = format!("{{\"a\":\"{}\"}}{{\"b\":1}}", "x".repeat(20_000));
        let mut said = Vec::new();
        for mut piece in large.as_bytes().chunks(1000) {
            while let Some(heard) = raw.hear(&mut piece) {
                said.push(matches!(heard, Said::Task { .. }));
            }
        }
        assert_eq!(said, [false, true]);
    }
}
