//! The address of a NATS server, checked at start so that a typing error is never taken for "no NATS".
//!
//! The check is stricter than a general URL parser: what is accepted here is accepted by the client library,
//! and a path or a query, which NATS would ignore, is refused. User and password in the address are secrets,
//! so the type prints without them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An address such as `nats://user:password@host:4222`. `Debug` and `Display` hide user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUrl(String);

impl NatsUrl {
    /// Parses `[nats://|tls://][user[:password]@]host[:port]`. The error says what is wrong with the text
    /// without repeating it, because it may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(found) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("holds {found:?}, which an address cannot"));
        }
        let rest = match text.split_once("://") {
            Some(("nats" | "tls", rest)) => rest,
            Some((scheme, _)) if scheme.contains(['@', ':']) => {
                return Err("has no scheme nats or tls".into());
            }
            Some((scheme, _)) => return Err(format!("has the scheme {scheme:?}, not nats or tls")),
            None => text,
        };
        let rest = match rest.rsplit_once('@') {
            Some((credentials, host)) => {
                check_credentials(credentials)?;
                host
            }
            None => rest,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_port(rest)?;
        check_host(host)?;
        if let Some(port) = port
            && !matches!(port.parse::<u16>(), Ok(1..))
        {
            return Err("has a port that is not a number from 1 to 65535".into());
        }
        Ok(Self(text.to_owned()))
    }

    /// The address with its user and password: for the call that connects, and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the address itself names a user, a password or a token.
    pub fn has_credentials(&self) -> bool {
        self.0.contains('@')
    }
}

/// `text` with everything that may be a password replaced: from the first `://` (or the start) to the last
/// `@`. Works on texts that are no addresses, too, since those are the ones that are reported.
pub(super) fn masked(text: &str) -> String {
    let Some(end) = text.rfind('@') else { return text.to_owned() };
    let start = text[..end].find("://").map_or(0, |at| at + 3);
    format!("{}***{}", &text[..start], &text[end..])
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.0))
    }
}

impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", masked(&self.0))
    }
}

fn check_credentials(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("has nothing before the @".into());
    }
    if text.contains(['@', '/', '?', '#', '[', ']']) {
        return Err("has a user or password with a character that must be percent-encoded".into());
    }
    Ok(())
}

/// Splits `host[:port]`, where an IPv6 address stands in brackets.
fn split_port(text: &str) -> Result<(&str, Option<&str>), String> {
    if text.starts_with('[') {
        let Some(end) = text.find(']') else { return Err("has a [ without its ]".into()) };
        let (host, rest) = text.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("has something other than a port after the ]".into()),
        };
    }
    Ok(match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    })
}

fn check_host(host: &str) -> Result<(), String> {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address
            .parse::<Ipv6Addr>()
            .map(drop)
            .map_err(|_| "has no IPv6 address in its brackets".into());
    }
    if is_host_name(host) { Ok(()) } else { Err("has no valid host name".into()) }
}

/// Whether `text` is an IPv4 address or a DNS name: labels of letters, digits, `-` and `_`, 253 bytes at
/// most.
pub(super) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name whose last label is a number is read as an IPv4 address by URL parsers, so it has to be one.
    let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label) && (!numeric || text.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_nats_knows_are_accepted() {
        for text in [
            "localhost",
            "127.0.0.1:4222",
            "nats://localhost:4222",
            "nats://localhost:4222/",
            "tls://nats.example.com",
            "nats://user:pass%40word@h-1:4222",
            "nats://token@[::1]:4222",
            "[2001:db8::1]",
            "my_nats",
        ] {
            assert!(NatsUrl::parse(text).is_ok(), "{text}: {:?}", NatsUrl::parse(text));
        }
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        for text in [
            "",
            "nats://",
            "http://localhost",
            "ws://localhost",
            "nats://host:0",
            "nats://host:65536",
            "nats://host:",
            "nats://host:42x",
            "nats://ho st",
            "nats://host/path",
            "nats://@host",
            "nats://a/b@host",
            "nats://[::1",
            "nats://[zz]",
            "nats://300.1.1.1",
            "nats://-host",
            "::1",
        ] {
            assert!(NatsUrl::parse(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn credentials_in_an_address_are_masked_whatever_it_looks_like() {
        let url = NatsUrl::parse("nats://alice:hunter2@host").expect("valid");
        assert_eq!(url.to_string(), "nats://***@host");
        assert_eq!(format!("{url:?}"), "\"nats://***@host\"");
        assert!(url.has_credentials());
        for text in
            ["alice:hunter2@host", "nats://a:hunter2@b,hunter2@c", "x://hunter2@@", "hunter2://hunter2@h"]
        {
            let shown = masked(text);
            assert!(!shown.replace("hunter2://", "").contains("hunter2"), "{shown}");
            let error = NatsUrl::parse(text).err().unwrap_or_default();
            assert!(!error.contains("nter2@"), "{error}");
        }
    }
}
