//! Where a template's placeholders come from: the request, who sent it, and what the gateway knows.
//!
//! | written | is | where |
//! |---|---|---|
//! | `name` | a parameter of the path | requests |
//! | `query:name` | a parameter of the query | requests, errors |
//! | `header:name` | a header of the request | requests, errors |
//! | `identity:name`, `identity:tenant` | who asks, as authenticated | requests, errors |
//! | `request:/pointer` | a part of the request's body | errors |
//! | `answer:/pointer` | a part of the responder's body | errors |
//! | a word of [`ERROR_FACTS`] | what went wrong | errors |
//! | a word of [`STATUS_FACTS`] | how the gateway stands | the gateway's own answer |

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderName};
use contract::{Error, Identity, Kind};

use super::path::is_name;
use super::pointer::Pointer;

/// What is known of an error.
pub(crate) const ERROR_FACTS: &[&str] = &[
    "code",
    "kind",
    "message",
    "status",
    "outcome",
    "details",
    "endpoint",
    "trace_id",
    "limit",
    "retry_after_seconds",
    "reset_unix_seconds",
];
/// What is known of the gateway.
pub(crate) const STATUS_FACTS: &[&str] = &["status", "version", "connected", "time"];

/// One source.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// A parameter of the path, by its place among them.
    Path(usize),
    /// A parameter of the query.
    Query(Box<str>),
    /// A header of the request.
    Header(HeaderName),
    /// The identity's name.
    Identity,
    /// The identity's tenant.
    Tenant,
    /// A part of the request's body.
    Request(Pointer),
    /// A part of the responder's body.
    Answer(Pointer),
    /// What the gateway knows, one of the words above.
    Fact(&'static str),
}

/// What a place has, to find what is written there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// Of a request with these parameters in its path.
    Request(&'a [&'a str]),
    /// Of an error.
    Error,
    /// Of the gateway's own answer.
    Status,
}

/// What was found: a text, or a value that is JSON already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// One JSON text.
    Json(Cow<'a, str>),
}

/// Where it is looked for. Whoever has facts gives them by their words.
pub(crate) trait Given {
    /// The parameters of the path, decoded.
    fn path(&self) -> &[String];
    /// Those of the query, decoded; fails if the query cannot be read.
    fn query(&self) -> Result<&[(String, String)], Error>;
    /// The request's headers.
    fn headers(&self) -> &HeaderMap;
    /// Who asks.
    fn identity(&self) -> &Identity;
    /// The tenant of who asks, its own or the default one.
    fn tenant(&self) -> &str;
    /// The request's body.
    fn request(&self) -> &[u8] {
        &[]
    }
    /// The responder's body.
    fn answer(&self) -> &[u8] {
        &[]
    }
    /// A fact.
    fn fact(&self, _word: &str) -> Option<Value<'_>> {
        None
    }
}

/// What the gateway knows beside a request.
pub(crate) trait Facts {
    /// A fact, by its word.
    fn fact(&self, word: &str) -> Option<Value<'_>>;
    /// Whether parts of the request's body may be told.
    fn tells_request(&self) -> bool {
        false
    }
    /// The responder's body.
    fn answer(&self) -> &[u8] {
        &[]
    }
}

/// A request together with what the gateway knows beside it.
pub(crate) struct Known<'a, G, F> {
    pub(crate) given: &'a G,
    pub(crate) facts: F,
}

impl<G: Given, F: Facts> Given for Known<'_, G, F> {
    fn path(&self) -> &[String] {
        self.given.path()
    }

    fn query(&self) -> Result<&[(String, String)], Error> {
        self.given.query()
    }

    fn headers(&self) -> &HeaderMap {
        self.given.headers()
    }

    fn identity(&self) -> &Identity {
        self.given.identity()
    }

    fn tenant(&self) -> &str {
        self.given.tenant()
    }

    fn request(&self) -> &[u8] {
        if self.facts.tells_request() { self.given.request() } else { &[] }
    }

    fn answer(&self) -> &[u8] {
        self.facts.answer()
    }

    fn fact(&self, word: &str) -> Option<Value<'_>> {
        self.facts.fact(word)
    }
}

impl Source {
    /// Reads what is written in a template. The error says what is wrong.
    pub(crate) fn parse(text: &str, place: Place<'_>) -> Result<Self, String> {
        let unknown = || {
            let known = match place {
                Place::Request(names) => {
                    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
                    [names, vec!["query:…, header:…, identity:name, identity:tenant".to_owned()]]
                        .concat()
                        .join(", ")
                }
                Place::Error => format!(
                    "{}, query:…, header:…, identity:name, identity:tenant, request:/…, answer:/…",
                    ERROR_FACTS.join(", ")
                ),
                Place::Status => STATUS_FACTS.join(", "),
            };
            format!("{{{text}}} is not known; there are {known}")
        };
        let is_of_request = !matches!(place, Place::Status);
        let is_error = matches!(place, Place::Error);
        match text.split_once(':') {
            None => match place {
                Place::Request(names) => {
                    names.iter().position(|name| *name == text).map(Self::Path).ok_or_else(unknown)
                }
                Place::Error => fact(text, ERROR_FACTS).ok_or_else(unknown),
                Place::Status => fact(text, STATUS_FACTS).ok_or_else(unknown),
            },
            Some(("query", "")) => Err(format!("{{{text}}} names no parameter")),
            Some(("query", name)) if is_of_request => Ok(Self::Query(name.into())),
            Some(("header", name)) if is_of_request => HeaderName::from_bytes(name.as_bytes())
                .map(Self::Header)
                .map_err(|_| format!("{{{text}}} names no header that could be")),
            Some(("identity", "name")) if is_of_request => Ok(Self::Identity),
            Some(("identity", "tenant")) if is_of_request => Ok(Self::Tenant),
            Some(("request", pointer)) if is_error => Pointer::parse(pointer).map(Self::Request),
            Some(("answer", pointer)) if is_error => Pointer::parse(pointer).map(Self::Answer),
            Some(_) => Err(unknown()),
        }
    }

    /// What is there; `None` if nothing is. A parameter or header that stands twice, or that cannot be read, is
    /// refused as `malformed`: which of the two is meant could only be guessed.
    pub(crate) fn find<'a>(&self, given: &'a impl Given) -> Result<Option<Value<'a>>, Error> {
        let text = |text: &'a str| Some(Value::Text(Cow::Borrowed(text)));
        Ok(match self {
            Self::Path(place) => given.path().get(*place).and_then(|value| text(value)),
            Self::Query(name) => {
                let mut values = given.query()?.iter().filter(|(known, _)| **known == **name);
                match (values.next(), values.next()) {
                    (Some((_, value)), None) => text(value),
                    (None, _) => None,
                    (Some(_), Some(_)) => return Err(twice(&format!("the parameter {name}"))),
                }
            }
            Self::Header(name) => {
                let mut values = given.headers().get_all(name).iter();
                match (values.next(), values.next()) {
                    (Some(value), None) => match std::str::from_utf8(value.as_bytes()) {
                        Ok(value) => text(value),
                        Err(_) => return Err(malformed(format!("the header {name} is not UTF-8"))),
                    },
                    (None, _) => None,
                    (Some(_), Some(_)) => return Err(twice(&format!("the header {name}"))),
                }
            }
            Self::Identity => text(&given.identity().name),
            Self::Tenant => text(given.tenant()),
            Self::Request(pointer) => part(pointer, given.request()),
            Self::Answer(pointer) => part(pointer, given.answer()),
            Self::Fact(word) => given.fact(word),
        })
    }

    /// What it is, for a person.
    pub(crate) fn name(&self, parameters: &[&str]) -> String {
        match self {
            Self::Path(place) => format!("the part {} of the path", parameters.get(*place).unwrap_or(&"?")),
            Self::Query(name) => format!("the query parameter {name}"),
            Self::Header(name) => format!("the header {name}"),
            Self::Identity | Self::Tenant => "the identity".to_owned(),
            Self::Request(_) | Self::Answer(_) => "a part of the body".to_owned(),
            Self::Fact(word) => (*word).to_owned(),
        }
    }
}

impl Value<'_> {
    /// The text, or the text that a JSON string holds, or else the JSON.
    pub(crate) fn as_text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Json(json) => serde_json::from_str::<String>(json).map_or(Cow::Borrowed(json), Cow::Owned),
        }
    }
}

/// A part of a body, as text if it is one. `null` is nothing, and so is a string that no text can be made of: a half
/// of a surrogate pair would make what it is put into unreadable.
fn part<'a>(pointer: &Pointer, body: &'a [u8]) -> Option<Value<'a>> {
    let raw = pointer.find(body)?.get();
    match raw.as_bytes().first() {
        Some(b'n') => None,
        Some(b'"') => serde_json::from_str::<String>(raw).ok().map(|text| Value::Text(Cow::Owned(text))),
        _ => Some(Value::Json(Cow::Borrowed(raw))),
    }
}

fn fact(text: &str, known: &[&'static str]) -> Option<Source> {
    is_name(text).then(|| known.iter().find(|word| **word == text).copied()).flatten().map(Source::Fact)
}

fn twice(what: &str) -> Error {
    malformed(format!("{what} stands more than once"))
}

pub(crate) fn malformed(text: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Kind::Malformed, text)
}
