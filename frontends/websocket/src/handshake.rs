//! Before the upgrade (RFC 6455 section 4.2): whether a request opens a WebSocket here, and the answer either way.
//!
//! Refusals are `application/problem+json`, as the HTTP door writes them: a client library shows the status at
//! least, and `curl` all of it.

use bytes::Bytes;
use contract::{Error, Kind, Outcome};
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Response, StatusCode, Version};
use serde_json::json;
use tungstenite::handshake::derive_accept_key;
use wire::site::Site;

use crate::form::Form;

/// The one version of the protocol that there is.
const VERSION: HeaderValue = HeaderValue::from_static("13");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// Characters of a key: 16 bytes in base64.
const KEY_CHARS: usize = 24;

/// A request that opens a WebSocket.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) form: Form,
    /// Whether the client offered subprotocols, so that the answer names the one chosen.
    named: bool,
    accept: String,
}

/// A request that does not, with what HTTP says of it.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Boxed, because this travels in results.
    error: Box<Error>,
    status: StatusCode,
    header: Option<(HeaderName, HeaderValue)>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let status = StatusCode::from_u16(error.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { error: Box::new(error), status, header: None }
    }
}

impl Refused {
    fn new(status: StatusCode, kind: Kind, text: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self { error: Box::new(Error::new(kind, text)), status, header: None }
    }

    fn with(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// The error, for the log.
    pub(crate) fn error(&self) -> &Error {
        &self.error
    }

    /// The answer. The connection ends with it: what follows a failed handshake is anybody's guess.
    pub(crate) fn respond(&self) -> Response<Full<Bytes>> {
        let kind = self.error.kind().code();
        let mut document = json!({
            "type": format!("urn:ipc-gateway:error:{kind}"),
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.error.text(),
            "kind": kind,
            "outcome": Outcome::NotSent.code(),
        });
        let wait = self.error.retry_after();
        if let Some(wait) = wait {
            document["retry_after_ms"] = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).into();
        }
        let mut response = Response::new(Full::from(document.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if let Some(wait) = wait {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        if let Some((name, value)) = &self.header {
            headers.insert(name, value.clone());
        }
        response
    }
}

impl Opening {
    /// Reads a request's head: strangers are refused first, then what is no handshake.
    pub(crate) fn read(request: &Parts, site: &Site) -> Result<Self, Refused> {
        let headers = &request.headers;
        let authority = request.uri.authority().map(Authority::as_str);
        site.check(authority, |name| headers.get_all(name).iter().map(HeaderValue::as_bytes)).map_err(
            |refusal| {
                let text = refusal.to_string();
                if refusal.is_malformed() {
                    Refused::new(StatusCode::BAD_REQUEST, Kind::Malformed, text)
                } else {
                    Refused::new(StatusCode::FORBIDDEN, Kind::Denied, text)
                }
            },
        )?;
        if request.method != Method::GET {
            let text = "a WebSocket is opened by GET";
            return Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, Kind::Unsupported, text)
                .with(ALLOW, HeaderValue::from_static("GET")));
        }
        let upgrades = names(headers, &UPGRADE, "websocket") && names(headers, &CONNECTION, "upgrade");
        if !upgrades || request.version != Version::HTTP_11 {
            let text =
                "this is a WebSocket: HTTP/1.1 with Connection: Upgrade and Upgrade: websocket opens it";
            return Err(
                Refused::new(StatusCode::UPGRADE_REQUIRED, Kind::Unsupported, text).with(UPGRADE, WEBSOCKET)
            );
        }
        let bad = |text: &'static str| Refused::new(StatusCode::BAD_REQUEST, Kind::Malformed, text);
        let has_length = headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
        if has_length || headers.contains_key(TRANSFER_ENCODING) {
            return Err(bad("a request that opens a WebSocket has no body"));
        }
        if single(headers, &SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
            let text = "the one version of the WebSocket protocol is 13 (Sec-WebSocket-Version)";
            return Err(Refused::new(StatusCode::UPGRADE_REQUIRED, Kind::Unsupported, text)
                .with(SEC_WEBSOCKET_VERSION, VERSION));
        }
        let key = single(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key.as_bytes()));
        let Some(key) = key else {
            return Err(bad("Sec-WebSocket-Key is 16 bytes in base64, once"));
        };
        let (mut named, mut form) = (false, None);
        for list in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
            named = true;
            let list = list.to_str().map_err(|_| bad("Sec-WebSocket-Protocol is a list of names"))?;
            form = form.or_else(|| list.split(',').find_map(|name| Form::parse(name.trim())));
        }
        let form = match form {
            Some(form) => form,
            None if !named => Form::Json,
            None => return Err(bad("the subprotocols are ipc-gateway.v1+json and ipc-gateway.v1+binary")),
        };
        Ok(Self { form, named, accept: derive_accept_key(key.as_bytes()) })
    }

    /// The answer that changes the protocol.
    pub(crate) fn respond(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, WEBSOCKET);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let accept = HeaderValue::from_str(&self.accept).expect("base64 is fit for a header");
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        if self.named {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.form.name()));
        }
        response
    }
}

/// Whether a list header has `word`, whatever its case.
fn names(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case(word))
}

/// The value of a header that comes once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Whether these are 16 bytes in base64: 22 characters that mean something, of which the last has four bits of
/// padding, and two signs of padding.
fn is_key(key: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == KEY_CHARS
        && key[..21].iter().all(is_base64)
        && matches!(key[21], b'A' | b'Q' | b'g' | b'w')
        && &key[22..] == b"=="
}
