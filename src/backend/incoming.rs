//! What comes back from a responder, read the same on every backend: a message, a part of several, or a no in its
//! headers.
//!
//! Two dialects say no: the gateway's own (`Ipc-Gateway-Error`, a string code) and the one of NATS services
//! (`Nats-Service-Error-Code` and `Nats-Service-Error`; ADR-32). Either makes the reply a `failed` with its
//! body kept byte for byte; a route's profile may refine the statuses afterwards.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use contract::{Error, Failed, Headers, Message};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// A string code: the reply is an error of the responder.
pub const ERROR: &str = "Ipc-Gateway-Error";
/// A code, mostly a number in HTTP's manner: the same in the words of NATS services.
pub const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";
/// The text that goes with [`SERVICE_ERROR_CODE`].
pub const SERVICE_ERROR: &str = "Nats-Service-Error";

/// `1`: the message is a part of an answer, and further ones follow; the last one lacks it.
pub const MORE: &str = "Ipc-Gateway-More";
/// No acknowledgement is larger: two names of at most 255 bytes each, a number, and the text of an error.
const ACKNOWLEDGEMENT_BYTES_MAX: usize = 2048;

/// The code of a no that does not say one.
const CODE_UNKNOWN: &str = "failed";
/// The code of an answer of many messages where one was to come.
const CODE_MORE: &str = "more_than_one_reply";

/// Whether further messages of the same answer follow.
pub fn says_more(headers: &Headers) -> bool {
    headers.get(MORE).is_some_and(|value| value == "1")
}

/// Reads one message of an answer that may have many: it, and whether further ones follow. Fails as [`reply`] does.
pub fn part(mut headers: Headers, payload: Bytes) -> Result<(Message, bool), Error> {
    let more = says_more(&headers);
    if more {
        // Each door says it in its own way.
        headers.retain(|name, _| !name.eq_ignore_ascii_case(MORE));
    }
    reply(headers, payload).map(|message| (message, more))
}

/// Reads a reply: the message, or the error kind `failed` if its headers say so. Then the code is the string
/// code, else the service's code; a number from 400 to 599 among them is the HTTP status to show (else 502),
/// and one from 500 on counts against the backend. A message that says [more](says_more) is `failed` too.
pub fn reply(headers: Headers, payload: Bytes) -> Result<Message, Error> {
    let [own, code, text] = [ERROR, SERVICE_ERROR_CODE, SERVICE_ERROR].map(|name| headers.get(name));
    if own.is_none() && code.is_none() && text.is_none() {
        if says_more(&headers) {
            // A part of an answer is not the answer, and nobody could tell that the rest is missing.
            let failed = Failed {
                body: payload,
                code: ByteString::from_static(CODE_MORE),
                http: 502,
                grpc: 2,
                counts: false,
            };
            return Err(Error::failed(failed, "the responder answers with more messages than one"));
        }
        return Ok(Message { headers, payload });
    }
    let codes = [own, code].into_iter().flatten().filter(|code| !code.is_empty());
    let status = codes.clone().find_map(|code| code.parse().ok().filter(|code| (400..=599).contains(code)));
    let code = codes.clone().next().cloned().unwrap_or_else(|| ByteString::from_static(CODE_UNKNOWN));
    let text: Cow<'static, str> = match text.filter(|text| !text.is_empty()) {
        Some(text) => text.to_string().into(),
        None => "the responder answered with an error".into(),
    };
    let failed = Failed {
        body: payload,
        code,
        http: status.unwrap_or(502),
        // UNKNOWN: what a status of another space means in gRPC is the route's profile to say.
        grpc: 2,
        counts: status.is_some_and(|status: u16| status >= 500),
    };
    Err(Error::failed(failed, text))
}

/// Whether a reply is what a JetStream stream says when a message is stored, or is not (`PubAck`; ADR-8, ADR-22):
/// an object with the text `stream` and the number `seq`. Where a stream covers the subject of a request, it comes to
/// the inbox of the reply, mostly before the answer. What has a member `ok` is an answer, whatever else it says.
pub fn is_acknowledgement(payload: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Acknowledgement<'a> {
        #[serde(borrow, rename = "stream")]
        _stream: Cow<'a, str>,
        #[serde(rename = "seq")]
        _seq: u64,
        ok: Option<IgnoredAny>,
    }

    payload.len() <= ACKNOWLEDGEMENT_BYTES_MAX
        && payload.trim_ascii_start().starts_with(b"{")
        && serde_json::from_slice::<Acknowledgement<'_>>(payload).is_ok_and(|found| found.ok.is_none())
}

/// Takes headers as they come from a library or a wire. What a header list cannot hold (a malformed name or
/// value, or more than its limits) is left out and told in the debug log: a message is worth more than the
/// sixty-fifth of its headers.
///
/// The headers that make a reply an error or a part are taken whatever else there is: left out, they would turn a
/// no into a yes, and a part into the whole.
pub fn headers<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in entries {
        let decides =
            [ERROR, SERVICE_ERROR_CODE, SERVICE_ERROR, MORE].iter().any(|no| name.eq_ignore_ascii_case(no));
        if decides && headers.append_past_limits(name, value).is_ok() {
            continue;
        }
        if let Err(reason) = headers.append(name, value) {
            tracing::debug!(name, %reason, "a header of a backend's message was left out");
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use contract::Kind;

    use super::*;

    fn read(entries: &[(&str, &str)]) -> Result<Message, Error> {
        reply(headers(entries.iter().copied()), Bytes::from_static(b"body"))
    }

    #[test]
    fn a_reply_without_error_headers_is_a_message() {
        let message = read(&[("X-A", "1"), ("X-A", "2")]).unwrap();
        assert_eq!((&message.payload[..], message.headers.len()), (&b"body"[..], 2));
    }

    #[test]
    fn a_no_behind_more_headers_than_fit_is_still_a_no() {
        let many = (0..200).map(|_| ("X-A", "1")).chain([(ERROR, "no_such_thing")]);
        let error = reply(headers(many), Bytes::new()).unwrap_err();
        assert_eq!(error.as_failed().unwrap().code, "no_such_thing");
    }

    #[test]
    fn error_headers_make_it_failed() {
        let cases: [(&[_], _, _, _); 7] = [
            (&[("Ipc-Gateway-Error", "policy_not_found")], "policy_not_found", 502, false),
            (&[("Nats-Service-Error-Code", "404"), ("Nats-Service-Error", "no")], "404", 404, false),
            (&[("nats-service-error-code", "503")], "503", 503, true),
            (&[("Ipc-Gateway-Error", "busy"), ("Nats-Service-Error-Code", "503")], "busy", 503, true),
            (&[("Nats-Service-Error-Code", "200")], "200", 502, false),
            (&[("Nats-Service-Error", "no")], "failed", 502, false),
            (&[("Ipc-Gateway-Error", "")], "failed", 502, false),
        ];
        for (entries, code, http, counts) in cases {
            let error = read(entries).unwrap_err();
            assert_eq!(error.kind(), Kind::Failed);
            let failed = error.as_failed().unwrap();
            assert_eq!((&*failed.code, failed.http, failed.counts), (code, http, counts), "{entries:?}");
            assert_eq!((&failed.body[..], failed.grpc), (&b"body"[..], 2));
        }
    }

    #[test]
    fn a_part_where_one_message_was_to_come_is_failed_and_read_as_a_part_it_loses_the_header() {
        let error = read(&[("Ipc-Gateway-More", "1")]).unwrap_err();
        assert_eq!(error.as_failed().unwrap().code, CODE_MORE);
        assert!(read(&[("Ipc-Gateway-More", "0")]).is_ok());
        let (message, more) = part(headers([("ipc-gateway-more", "1"), ("X-A", "1")]), Bytes::new()).unwrap();
        assert!(more && message.headers.len() == 1);
        let many = (0..200).map(|_| ("X-A", "1")).chain([(MORE, "1")]);
        assert!(part(headers(many), Bytes::new()).unwrap().1);
    }

    #[test]
    fn an_acknowledgement_is_told_from_an_answer() {
        let acknowledgements = [
            r#"{"stream":"S","seq":1}"#,
            r#"{"stream":"S", "seq":7,"domain":"d","duplicate":true}"#,
            r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"S","seq":0}"#,
        ];
        for text in acknowledgements {
            assert!(is_acknowledgement(text.as_bytes()), "{text}");
        }
        let long = format!(r#"{{"stream":"S","seq":1,"more":"{}"}}"#, "x".repeat(ACKNOWLEDGEMENT_BYTES_MAX));
        let answers = [
            r#"{"ok":true,"stream":"S","seq":7}"#,
            r#"{"ok":false,"error":{"code":"internal"},"stream":"S","seq":7}"#,
            r#"{"stream":"S"}"#,
            r#"{"seq":1}"#,
            r#"{"stream":1,"seq":1}"#,
            r#"["S",1]"#,
            "",
            &long,
        ];
        for text in answers {
            assert!(!is_acknowledgement(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn the_services_text_is_kept() {
        assert_eq!(read(&[("Nats-Service-Error", "no such policy")]).unwrap_err().text(), "no such policy");
    }

    #[test]
    fn what_is_no_header_is_left_out() {
        let kept = headers([("A", "1"), ("", "2"), ("B", "x\r\ny")]);
        assert_eq!(kept.len(), 1);
    }
}
