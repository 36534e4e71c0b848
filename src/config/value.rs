//! What a setting can hold: kinds, values, and the way from text or TOML to a value.
//!
//! A value is read by its kind alone, so that the same text means the same wherever it comes from. What is
//! wrong with a text is said without repeating the text, which may be a secret.

use std::fmt;
use std::net::IpAddr;

use contract::{Headers, Pattern, Subject};
use toml::de::DeValue;

use super::nats_url::{NatsUrl, is_host_name, masked};
use super::secret::Secret;
use crate::telemetry::{self, LogError};

/// What values a setting takes.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// 1, true, yes, on, 0, false, no, off, in any case.
    Bool,
    /// A whole number, both ends included. The unit is for the reader.
    Int {
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
        /// The unit, and what a special value means.
        unit: &'static str,
    },
    /// A text that is not empty.
    Text,
    /// A text that is never printed.
    Secret,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A path of the file system.
    Path,
    /// The mode of a file, three or four octal digits.
    Mode,
    /// An IP address.
    Address,
    /// A log level or a list of directives.
    Filter,
    /// A user or group number.
    Id,
    /// A host name or an IP address, or `*`.
    Host,
    /// The origin of a web page, or `*`.
    Origin,
    /// The address of a NATS server.
    Url,
    /// A concrete NATS subject.
    Subject,
    /// A NATS subject that may hold wildcards.
    Pattern,
    /// The first tokens of a subject, `_INBOX` and the like.
    Prefix,
    /// The name of a header, or `*`.
    Header,
    /// Who may do something: `any`, `local`, `loopback`, `anonymous`, `uid:<n>`, `gid:<n>`.
    Peer,
    /// Several of another kind.
    List(&'static Kind),
}

/// A value that its kind accepted. `Debug` and `Display` show no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Int`] and [`Kind::Id`].
    Int(u64),
    /// Of every kind that is a text.
    Text(String),
    /// Of [`Kind::Secret`].
    Secret(Secret),
    /// Of [`Kind::Url`].
    Url(NatsUrl),
    /// Of [`Kind::List`].
    List(Vec<Value>),
}

impl Kind {
    /// Reads a value from text: the environment, a flag, a default. Lists are separated by commas; `[]` is
    /// the empty list, and `["a", "b"]` is understood too. The error says what is wrong, without the text.
    pub fn parse_text(&self, text: &str) -> Result<Value, String> {
        let text = if *self == Self::Secret { text } else { text.trim() };
        match self {
            Self::Bool => match text.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => Ok(Value::Bool(true)),
                "0" | "false" | "no" | "off" => Ok(Value::Bool(false)),
                _ => Err("is not a switch".into()),
            },
            Self::Int { .. } | Self::Id => self.parse_int(&text.replace('_', ""), 10),
            Self::List(item) => {
                if text.starts_with('[') && text.ends_with(']') && **item != Self::Url
                    || text.starts_with("[\"")
                    || text == "[]"
                {
                    let list =
                        DeValue::parse(text).map_err(|_| "starts like a list but is none".to_owned())?;
                    return self.parse_toml(list.get_ref());
                }
                list(text.split(',').map(|element| item.parse_text(element)))
            }
            Self::Secret if text.is_empty() => Err("is empty".into()),
            Self::Secret => Ok(Value::Secret(Secret::new(text))),
            Self::Url => NatsUrl::parse(text).map(Value::Url),
            Self::Address => match text.parse::<IpAddr>() {
                Ok(address) => Ok(Value::Text(address.to_string())),
                Err(_) => Err("is not an IP address".into()),
            },
            _ => self.check_word(text).map(|()| Value::Text(text.to_owned())),
        }
    }

    /// Reads a value from a TOML document. The error says what is wrong, without the value.
    pub(super) fn parse_toml(&self, value: &DeValue<'_>) -> Result<Value, String> {
        match (self, value) {
            (Self::Bool, DeValue::Boolean(on)) => Ok(Value::Bool(*on)),
            (Self::Int { .. } | Self::Id, DeValue::Integer(number)) => {
                self.parse_int(number.as_str(), number.radix())
            }
            (Self::List(item), DeValue::Array(elements)) => {
                list(elements.iter().map(|element| item.parse_toml(element.get_ref())))
            }
            (Self::Bool | Self::Int { .. } | Self::Id | Self::List(_), other) => {
                Err(format!("is {}", article(other.type_str())))
            }
            (_, DeValue::String(text)) => self.parse_text(text),
            (_, other) => Err(format!("is {}", article(other.type_str()))),
        }
    }

    fn parse_int(&self, digits: &str, radix: u32) -> Result<Value, String> {
        let (min, max) = match self {
            Self::Int { min, max, .. } => (*min, *max),
            // The largest number of both means "none" to the system.
            _ => (0, u64::from(u32::MAX) - 1),
        };
        match i128::from_str_radix(digits, radix) {
            Ok(number) if number < i128::from(min) => Err(format!("is below {min}")),
            Ok(number) if number > i128::from(max) => Err(format!("is above {max}")),
            Ok(number) => Ok(Value::Int(u64::try_from(number).expect("between min and max, which are u64"))),
            Err(_) => Err("is not a whole number".into()),
        }
    }

    /// Checks the kinds that are a text and stay one.
    fn check_word(&self, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Err("is empty".into());
        }
        let complain = |what: &str| Err(what.to_owned());
        match self {
            Self::Choice(words) if !words.contains(&text) => complain("is not one of the words"),
            Self::Path if text.contains('\0') => complain("holds a NUL"),
            Self::Mode if !is_mode(text) => complain("is not a file mode"),
            Self::Filter => check_filter(text),
            Self::Host if text != "*" && !is_host_name(text) && text.parse::<IpAddr>().is_err() => {
                complain("is not a host name")
            }
            Self::Origin if text != "*" && !is_origin(text) => complain("is not the origin of a web page"),
            Self::Subject => check_subject(text),
            Self::Pattern => check_pattern(text),
            Self::Prefix => check_prefix(text),
            Self::Header => check_header(text),
            Self::Peer if !is_peer(text) => complain("is nobody that a route knows"),
            _ => Ok(()),
        }
    }

    /// What is allowed, as a phrase: "a whole number from 1 to 4096 (requests)".
    pub fn allowed(&self) -> String {
        match self {
            Self::Bool => "true or false".into(),
            Self::Int { min, max, unit } => format!("a whole number from {min} to {max} ({unit})"),
            Self::Text => "a text that is not empty".into(),
            Self::Secret => "a text that is not empty (secret)".into(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Path => "a path".into(),
            Self::Mode => "octal digits in quotes, such as \"0600\"".into(),
            Self::Address => "an IP address".into(),
            Self::Filter => "a level (off, error, warn, info, debug, trace) or directives such as \
                             warn,ipc_gateway=debug"
                .into(),
            Self::Id => "a user or group number".into(),
            Self::Host => "* or a host name or an IP address, without port".into(),
            Self::Origin => "* or scheme://host[:port], as browsers write it".into(),
            Self::Url => "[nats://|tls://][user:password@]host[:port]".into(),
            Self::Subject => "a NATS subject without wildcards that is not reserved".into(),
            Self::Pattern => "a NATS pattern (* for one token, > at the end) that is not reserved".into(),
            Self::Prefix => "one or more tokens of a NATS subject".into(),
            Self::Header => {
                "* or a header name that is not reserved (Nats-…, Ipc-Gateway-…, traceparent, tracestate)"
                    .into()
            }
            Self::Peer => "any, local, loopback, anonymous, uid:<number> or gid:<number>".into(),
            Self::List(item) => format!("a list, each element {}", item.allowed()),
        }
    }

    /// `raw` as a problem may show it: secrets hidden, addresses without password, and short.
    pub(super) fn shown(&self, raw: &str) -> String {
        const CHARS_MAX: usize = 120;
        match self {
            Self::Secret => return "***".into(),
            Self::Url | Self::List(Self::Url) => return visible(&masked(raw)),
            _ => {}
        }
        let mut shown: String = raw.chars().take(CHARS_MAX).collect();
        if raw.chars().nth(CHARS_MAX).is_some() {
            shown.push('…');
        }
        visible(&shown)
    }
}

impl Value {
    /// The value as JSON, secrets hidden.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Bool(on) => (*on).into(),
            Self::Int(number) => (*number).into(),
            Self::List(elements) => elements.iter().map(Self::to_json).collect(),
            Self::Text(text) => text.as_str().into(),
            Self::Secret(secret) => secret.to_string().into(),
            Self::Url(url) => url.to_string().into(),
        }
    }
}

/// The value as it stands in the file, secrets hidden. TOML's strings are JSON's, as far as JSON goes.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::List(elements) = self else { return write!(f, "{}", self.to_json()) };
        f.write_str("[")?;
        for (at, element) in elements.iter().enumerate() {
            write!(f, "{}{element}", if at == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

/// `text` on one line: control characters as escapes.
fn visible(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

fn list(elements: impl Iterator<Item = Result<Value, String>>) -> Result<Value, String> {
    let numbered = (1..).zip(elements);
    let checked =
        numbered.map(|(at, element)| element.map_err(|what| format!("has an element ({at}) that {what}")));
    checked.collect::<Result<_, _>>().map(Value::List)
}

fn article(noun: &str) -> String {
    format!("{} {noun}", if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" })
}

fn is_mode(text: &str) -> bool {
    let digits = text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    digits && (text.len() == 3 || text.len() == 4 && text.starts_with('0'))
}

fn is_peer(text: &str) -> bool {
    let number = |rest: &str| rest.parse::<u32>().is_ok_and(|id| id != u32::MAX);
    match text.split_once(':') {
        Some(("uid" | "gid", rest)) => number(rest),
        _ => matches!(text, "any" | "local" | "loopback" | "anonymous"),
    }
}

/// What browsers send as `Origin` (RFC 6454, 6.2): no path, no user, and lower case as they normalize it.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let host = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
    !authority.is_empty()
        && authority.bytes().all(host)
        && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        && !scheme.is_empty()
}

fn check_subject(text: &str) -> Result<(), String> {
    match Subject::parse(text) {
        Ok(subject) if subject.is_reserved() => Err(RESERVED.into()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("is no subject: {error}")),
    }
}

fn check_pattern(text: &str) -> Result<(), String> {
    match Pattern::parse(text) {
        Ok(pattern) if pattern.is_reserved() => Err(RESERVED.into()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("is no pattern: {error}")),
    }
}

const RESERVED: &str = "is reserved: no peer reaches what starts with $ or _";

/// The prefix of the reply inboxes is the one reserved subject that a setting names.
fn check_prefix(text: &str) -> Result<(), String> {
    match Subject::parse(text) {
        Ok(_) if text.starts_with('$') => Err("starts with $, which belongs to the server".into()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("is no subject: {error}")),
    }
}

/// Header names are those of HTTP (RFC 9110, 5.6.2), which is stricter than NATS.
fn check_header(text: &str) -> Result<(), String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.bytes().all(token) {
        return Err("has a character that no header name has".into());
    }
    if Headers::is_reserved(text) {
        return Err("is reserved: no peer may set it".into());
    }
    Ok(())
}

fn check_filter(text: &str) -> Result<(), String> {
    telemetry::check_filter(text).map_err(|error| match error {
        LogError::Filter { source, .. } => format!("cannot be read: {source}"),
        _ => "has a word that is neither a level nor target=level".into(),
    })
}
