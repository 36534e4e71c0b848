//! Decides whose requests are answered, so that a web page cannot read the admin pages.
//!
//! The address is loopback, but a browser on this machine reaches loopback too, for any page of any site. The
//! same-origin policy hides the answer from the page, until the page's own name is made to resolve to
//! 127.0.0.1 (DNS rebinding): then the browser believes that it talks to the page's own site. What cannot be
//! faked there is the name in `Host`, so names are answered only when they are on a list. An address in `Host`
//! is safe without a list: a page that got here by rebinding always carries a name, and a page that asks for
//! the address itself is another origin, which `Origin` and `Sec-Fetch-Site` tell.

use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::uri::Uri;

/// A DNS name has at most 253 characters, a port 5.
const AUTHORITY_BYTES_MAX: usize = 260;

/// The names that are answered.
#[derive(Debug)]
pub(super) struct Guard {
    any: bool,
    names: Vec<String>,
}

/// Why a request is not answered. `hosts` is the setting that would change it, where one would.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the request has no Host header")]
    HostMissing,
    #[error("the request has more than one Host header")]
    HostRepeated,
    #[error("the request's Host is not a name or an address with an optional port")]
    HostMalformed,
    #[error(
        "the name {0:?} is not answered here, because a web page could have brought it (DNS rebinding); if it \
         is this gateway's own name, add it to admin.hosts (IPC_GATEWAY__ADMIN__HOSTS)"
    )]
    HostDenied(String),
    #[error("the request comes from a page of another site, which has no business here")]
    OtherSite,
}

impl Refusal {
    /// A word for programs.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::HostMissing => "host_missing",
            Self::HostRepeated => "host_repeated",
            Self::HostMalformed => "host_malformed",
            Self::HostDenied(_) => "host_denied",
            Self::OtherSite => "other_site",
        }
    }

    /// Whether the request is wrong in itself (400), rather than unwelcome (403).
    pub(super) fn is_malformed(&self) -> bool {
        matches!(self, Self::HostMissing | Self::HostRepeated | Self::HostMalformed)
    }
}

impl Guard {
    pub(super) fn new(hosts: &[String]) -> Self {
        let names = hosts.iter().map(|name| plain(name)).chain(["localhost".to_owned()]).collect();
        Self { any: hosts.iter().any(|name| name == "*"), names }
    }

    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = text(hosts.next().ok_or(Refusal::HostMissing)?).ok_or(Refusal::HostMalformed)?;
        if hosts.next().is_some() {
            return Err(Refusal::HostRepeated);
        }
        self.check_authority(host)?;
        // `GET http://name/ HTTP/1.1`: RFC 9112, 3.2.2 has this name win over Host, so both must be welcome.
        if let Some(authority) = uri.authority() {
            self.check_authority(authority.as_str())?;
        }
        let other_origin = headers.get_all(ORIGIN).iter().any(|origin| !is_own(origin, host));
        let cross_site = headers.get_all("sec-fetch-site").iter().any(|site| site == "cross-site");
        if other_origin || cross_site {
            return Err(Refusal::OtherSite);
        }
        Ok(())
    }

    fn check_authority(&self, authority: &str) -> Result<(), Refusal> {
        match Host::parse(authority).ok_or(Refusal::HostMalformed)? {
            Host::Address => Ok(()),
            Host::Name(name) if self.any || self.names.contains(&name) => Ok(()),
            Host::Name(name) => Err(Refusal::HostDenied(name)),
        }
    }
}

/// What stands in `Host`, without its port: a rebound name arrives at the right port anyway.
enum Host {
    Address,
    Name(String),
}

impl Host {
    fn parse(authority: &str) -> Option<Self> {
        if authority.len() > AUTHORITY_BYTES_MAX {
            return None;
        }
        if let Some(bracketed) = authority.strip_prefix('[') {
            let (address, rest) = bracketed.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            return (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)).then_some(Self::Address);
        }
        let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
        if !is_port(port) {
            return None;
        }
        // Only the four-part decimal form counts as an address; `0x7f.1` is a name, and not on the list.
        if name.parse::<Ipv4Addr>().is_ok() {
            return Some(Self::Address);
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        (!plain(name).is_empty() && name.bytes().all(is_name)).then(|| Self::Name(plain(name)))
    }
}

/// Names are compared without case and without the dot of the root.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// RFC 3986, 3.2.3 allows an empty port.
fn is_port(text: &str) -> bool {
    text.is_empty() || (text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok())
}

/// An origin is ours when it is what the browser was told to talk to, name and port: another port is another
/// program. `null` (a sandbox, a file) is nobody's.
fn is_own(origin: &HeaderValue, host: &str) -> bool {
    let Some((scheme, authority)) = text(origin).and_then(|origin| origin.split_once("://")) else {
        return false;
    };
    matches!(scheme, "http" | "https") && authority.eq_ignore_ascii_case(host)
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hosts: &[&str], uri: &str, headers: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let hosts: Vec<String> = hosts.iter().map(|&name| name.to_owned()).collect();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Guard::new(&hosts).check(&uri.parse().unwrap(), &map)
    }

    #[test]
    fn addresses_and_listed_names_are_answered() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "127.0.0.1",
            "127.0.0.1:1",
            "10.1.2.3:65535",
            "[::1]",
            "[::1]:8080",
            "[fe80::1]:",
            "gateway.internal",
            "Gateway.Internal.:9",
        ] {
            assert_eq!(check(&["Gateway.internal"], "/", &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn other_names_are_refused_unless_all_are_allowed() {
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:8080", "0x7f.1", "2130706433"]
        {
            let refused = check(&[], "/", &[("host", host)]);
            assert!(matches!(refused, Err(Refusal::HostDenied(_))), "{host}: {refused:?}");
            assert_eq!(check(&["*"], "/", &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_host_that_is_not_one_is_malformed() {
        for host in [
            "",
            ".",
            ":80",
            "a b",
            "user@localhost",
            "localhost:65536",
            "localhost:8o",
            "localhost:80:80",
            "::1",
            "[::1",
            "[::1]x",
            "[localhost]",
            "localhost/",
            "lo\u{e9}",
        ] {
            assert_eq!(check(&["*"], "/", &[("host", host)]), Err(Refusal::HostMalformed), "{host:?}");
        }
        assert_eq!(check(&["*"], "/", &[("host", &"a".repeat(261))]), Err(Refusal::HostMalformed));
        assert_eq!(check(&["*"], "/", &[]), Err(Refusal::HostMissing));
        assert_eq!(
            check(&["*"], "/", &[("host", "localhost"), ("host", "localhost")]),
            Err(Refusal::HostRepeated)
        );
    }

    #[test]
    fn the_name_in_the_request_line_counts_too() {
        assert_eq!(
            check(&[], "http://evil.example/health", &[("host", "localhost")]),
            Err(Refusal::HostDenied("evil.example".into()))
        );
        assert_eq!(check(&[], "http://localhost/health", &[("host", "localhost")]), Ok(()));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        for origin in [
            "http://evil.example",
            "null",
            "http://localhost:3000",
            "localhost:8080",
            "file://localhost:8080",
        ] {
            let refused = check(&["*"], "/", &[("host", "localhost:8080"), ("origin", origin)]);
            assert_eq!(refused, Err(Refusal::OtherSite), "{origin}");
        }
        let own = [("host", "localhost:8080"), ("origin", "http://localhost:8080")];
        assert_eq!(check(&[], "/", &own), Ok(()));
        assert_eq!(
            check(&[], "/", &[("host", "127.0.0.1"), ("sec-fetch-site", "cross-site")]),
            Err(Refusal::OtherSite)
        );
        for site in ["none", "same-origin"] {
            assert_eq!(check(&[], "/", &[("host", "127.0.0.1"), ("sec-fetch-site", site)]), Ok(()));
        }
    }
}
