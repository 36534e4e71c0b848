//! The demo: responders that make a fresh clone answer, each of whose replies says that it is the demo, by
//! the header `Ipc-Gateway-Demo: true` and, in every JSON of theirs, by `"demo":true`.
//!
//! | subject | answer |
//! |---|---|
//! | `demo.echo` | the payload, untouched |
//! | `beamline.router.v1.decide` | a decision as the real router gives it |
//! | `demo.time` | the time |
//! | `demo.slow` | after as many milliseconds as the payload says, at most 60,000 |
//! | `demo.count` | as many messages as the payload says, at most 1,000, on a route that lets it have so many |
//! | `demo.fail` | an error of the responder |
//! | `demo.silent` | never |
//! | `demo.tick` | not asked but subscribed to: a message each tick, while somebody listens |

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use contract::{Headers, Message, Pattern, Subject};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::broker::Broker;
use super::posted::Posted;
use super::subscription::Attached;
use crate::backend::incoming;
use crate::backend::outgoing::RequestId;

/// The header of every reply of the demo; its value is `true`.
pub const HEADER: &str = "Ipc-Gateway-Demo";
/// The longest that `demo.slow` waits, in milliseconds.
pub const SLOW_MS_MAX: u64 = 60_000;
/// The most messages that `demo.count` answers with.
pub const COUNT_MAX: usize = 1000;
/// The longest request id, in bytes of JSON, that the demo's router gives back.
const REQUEST_ID_BYTES_MAX: usize = 256;

/// Attaches the responders, and starts the ticker, which ends with `stop`.
pub(super) fn attach(broker: &Broker, tick: Duration, stop: &CancellationToken) -> Vec<Attached> {
    let runtime = Handle::current();
    drop(runtime.spawn(stop.clone().run_until_cancelled_owned(ticker(broker.clone(), tick))));
    let headers = marked();
    let stop = stop.clone();
    let on = |subject, answer: fn(&Posted<'_>) -> Option<Message>| {
        broker.respond(Pattern::from_static(subject), None, answer)
    };
    vec![
        broker.respond(Pattern::from_static("demo.echo"), None, move |posted| {
            Some(Message { headers: headers.clone(), payload: posted.payload().clone() })
        }),
        broker.respond(Pattern::from_static("demo.slow"), None, move |posted| slow(posted, &runtime, &stop)),
        on("beamline.router.v1.decide", |posted| Some(json(decision(posted.payload())))),
        on("demo.time", |_| Some(json(format!(r#"{{"demo":true,"time":"{}"}}"#, Timestamp::now())))),
        on("demo.count", count),
        on("demo.fail", |_| Some(failure("demo_failure", "demo.fail always fails"))),
        on("demo.silent", |_| None),
    ]
}

fn marked() -> Headers {
    let mut headers = Headers::new();
    headers.append(HEADER, "true").expect("one small header is within the limits");
    headers
}

fn json(body: String) -> Message {
    Message { headers: marked(), payload: Bytes::from(body) }
}

/// `code` and `text` hold nothing that JSON or a header would have to escape.
fn failure(code: &'static str, text: &'static str) -> Message {
    let body = format!(r#"{{"ok":false,"demo":true,"error":{{"code":"{code}","message":"{text}"}}}}"#);
    let mut message = json(body);
    message.headers.append(incoming::ERROR, code).expect("two small headers are within the limits");
    message
}

/// What the demo's router reads of a task; the rest is skipped without being kept.
#[derive(Default, Deserialize)]
struct Task<'a> {
    #[serde(borrow, default)]
    request_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    task_id: Option<&'a RawValue>,
}

/// The router's success, with the id that the task has, else a new one.
fn decision(payload: &[u8]) -> String {
    let task: Task<'_> = serde_json::from_slice(payload).unwrap_or_default();
    let is_id = |id: &&str| id.starts_with('"') && id.len() > 2 && id.len() <= REQUEST_ID_BYTES_MAX;
    let id = [task.request_id, task.task_id].into_iter().flatten().map(RawValue::get).find(is_id);
    let id = id.map_or_else(|| format!("\"{}\"", RequestId::random()), str::to_owned);
    format!(
        concat!(
            r#"{{"ok":true,"demo":true,"decision":{{"provider_id":"demo","priority":50,"#,
            r#""expected_latency_ms":0,"expected_cost":0.0,"reason":"demo responder of ipc-gateway: "#,
            r#"no router is configured, see NATS_URL"}},"context":{{"request_id":{}}}}}"#,
        ),
        id
    )
}

/// Answers later, unless the request is given up or the backend closes: then its task ends at once.
fn slow(posted: &Posted<'_>, runtime: &Handle, stop: &CancellationToken) -> Option<Message> {
    let wish = std::str::from_utf8(posted.payload()).ok().and_then(|text| text.trim().parse().ok());
    let Some(wait) = wish.filter(|wait| *wait <= SLOW_MS_MAX) else {
        return Some(failure("invalid_request", "the payload must be milliseconds, at most 60000"));
    };
    let reply = posted.reply()?;
    let stop = stop.clone();
    drop(runtime.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = reply.released() => {}
            () = tokio::time::sleep(Duration::from_millis(wait)) => {
                let answer = json(format!(r#"{{"demo":true,"waited_ms":{wait}}}"#));
                // Given up in this very moment: the broker has counted it.
                let _ = reply.send(answer);
            }
        }
    }));
    None
}

/// Answers with many messages.
fn count(posted: &Posted<'_>) -> Option<Message> {
    let wish = std::str::from_utf8(posted.payload()).ok().and_then(|text| text.trim().parse().ok());
    let Some(count) = wish.filter(|count| (1..=COUNT_MAX).contains(count)) else {
        return Some(failure("invalid_request", "the payload must be a number of messages, 1 to 1000"));
    };
    let reply = posted.reply()?;
    for number in 1..=count {
        let mut message = json(format!(r#"{{"demo":true,"number":{number},"of":{count}}}"#));
        if number < count {
            message.headers.append(incoming::MORE, "1").expect("two small headers are within the limits");
        }
        if reply.send(message).is_err() {
            // Over a bound of the route, or the route takes one message only.
            break;
        }
    }
    None
}

/// Publishes a tick after each `tick`, while somebody listens; otherwise it waits for somebody.
async fn ticker(broker: Broker, tick: Duration) {
    let subject = Subject::from_static("demo.tick");
    let headers = marked();
    let mut count = 0_u64;
    loop {
        while !broker.is_heard(&subject) {
            broker.subscribed().await;
        }
        tokio::time::sleep(tick.max(Duration::from_millis(1))).await;
        if !broker.is_heard(&subject) {
            continue;
        }
        count += 1;
        let body = format!(r#"{{"demo":true,"tick":{count},"time":"{}"}}"#, Timestamp::now());
        if let Err(error) = broker.publish(&Posted::ready(&subject, &headers, &body.into())) {
            tracing::debug!(%error, "the demo's ticker stops");
            return;
        }
    }
}

/// A time as RFC 3339 in UTC, to the millisecond.
struct Timestamp(Duration);

impl Timestamp {
    fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.as_secs(), self.0.subsec_millis());
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        // Days to a date of the Gregorian calendar, in years that begin with March (Howard Hinnant,
        // "chrono-Compatible Low-Level Date Algorithms", civil_from_days): 719,468 days from 0000-03-01 to
        // 1970-01-01, 146,097 days in each 400 years.
        let day = days + 719_468;
        let (era, day) = (day / 146_097, day % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let date = day - (153 * month + 2) / 5 + 1;
        let (month, year) = if month < 10 { (month + 3, year) } else { (month - 9, year + 1) };
        let year = year + era * 400;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(formatter, "{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_router_gives_back_the_tasks_own_id() {
        let long = format!(r#"{{"request_id":"{}","task_id":"t"}}"#, "x".repeat(300));
        let cases = [
            (r#"{"task_id":"test1","payload":"hello"}"#, Some("test1")),
            (r#"{"request_id":"a\"\u00e4","task_id":"b"}"#, Some("a\"ä")),
            (r#"{"request_id":null,"task_id":"b"}"#, Some("b")),
            (r#"{"request_id":7}"#, None),
            (r#"{"request_id":""}"#, None),
            (long.as_str(), Some("t")),
            ("[1]", None),
            ("not JSON", None),
            ("", None),
        ];
        for (payload, expected) in cases {
            let body: Value = serde_json::from_str(&decision(payload.as_bytes())).unwrap();
            let id = body["context"]["request_id"].as_str().unwrap();
            match expected {
                Some(expected) => assert_eq!(id, expected, "{payload}"),
                None => assert_eq!(id.len(), 32, "{payload}"),
            }
            assert_eq!((&body["ok"], &body["demo"]), (&Value::Bool(true), &Value::Bool(true)));
        }
    }

    #[test]
    fn a_failure_is_json_and_has_the_header() {
        let message = failure("demo_failure", "demo.fail always fails");
        let body: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(body["error"]["code"], "demo_failure");
        assert_eq!(message.headers.get(incoming::ERROR).unwrap(), "demo_failure");
    }

    #[test]
    fn times_are_of_the_calendar() {
        // Checked against `date -u -d @N`.
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_709_210_096, "2024-02-29T12:34:56.000Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000Z"),
        ];
        for (seconds, text) in cases {
            assert_eq!(Timestamp(Duration::from_secs(seconds)).to_string(), text);
        }
        assert_eq!(Timestamp(Duration::from_millis(1)).to_string(), "1970-01-01T00:00:00.001Z");
    }
}
