//! Whether a request over HTTP may be answered, so that no web page can use what listens on this machine.
//!
//! A browser reaches loopback too, for any page of any site. It sends `text/plain` posts, WebSocket handshakes
//! and event streams without asking first, and although the same-origin policy hides the answer from the page,
//! the request has been done by then. And the policy itself is worth nothing once the page's own name is made
//! to resolve to 127.0.0.1 (DNS rebinding): then the browser believes that it talks to the page's own site.
//!
//! What cannot be faked from a page is the name in `Host`, and what the browser says of the page in `Origin`
//! and `Sec-Fetch-Site`. So names are answered only when they are on a list, and pages only when they are of
//! the same origin or on a list; whatever the method and the content type. An address in `Host` is safe
//! without a list: a page that got here by rebinding always carries a name, and one that asks for the address
//! itself is another origin.
//!
//! No type of an HTTP library stands here: the admin listener, HTTP, WebSocket and gRPC-Web share this one
//! implementation, and each brings its headers as bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A DNS name has at most 253 characters, a port 5.
const AUTHORITY_BYTES_MAX: usize = 260;

/// Which names are answered, and the pages of which origins.
#[derive(Clone, Debug)]
pub struct Site {
    section: &'static str,
    any_name: bool,
    names: Vec<String>,
    any_origin: bool,
    origins: Vec<String>,
}

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No name was asked for.
    #[error("the request has no Host header")]
    HostMissing,
    /// It cannot be known which name counts.
    #[error("the request has more than one Host header")]
    HostRepeated,
    /// It cannot be known what name is meant.
    #[error("the request's Host is not a name or an address with an optional port")]
    HostMalformed,
    /// A name that is on no list.
    #[error(
        "the name {name:?} is not answered here, because a web page could have brought it (DNS rebinding); if it \
         is this gateway's own name, add it to {section}.hosts (IPC_GATEWAY__{}__HOSTS)",
        .section.to_ascii_uppercase()
    )]
    HostDenied {
        /// The name.
        name: String,
        /// The section of the configuration whose `hosts` would allow it.
        section: &'static str,
    },
    /// A page that is not of this origin and on no list.
    #[error("the request comes from a page of another site, which has no business here")]
    OtherSite,
}

impl Refusal {
    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::HostMissing => "host_missing",
            Self::HostRepeated => "host_repeated",
            Self::HostMalformed => "host_malformed",
            Self::HostDenied { .. } => "host_denied",
            Self::OtherSite => "other_site",
        }
    }

    /// Whether the request is wrong in itself (400), rather than unwelcome (403).
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::HostMissing | Self::HostRepeated | Self::HostMalformed)
    }
}

impl Site {
    /// Answers `localhost`, IP addresses and these names (`*` is every name), and pages of the same origin.
    /// `section` is the section of the configuration where `hosts` stands, for a refusal to point to.
    pub fn new(section: &'static str, hosts: &[String]) -> Self {
        let names = hosts.iter().map(|name| plain(name)).chain(["localhost".to_owned()]).collect();
        let any_name = hosts.iter().any(|name| name == "*");
        Self { section, any_name, names, any_origin: false, origins: Vec::new() }
    }

    /// Answers pages of these origins too, such as `https://app.example` (`*` is every origin but `null`).
    #[must_use]
    pub fn with_origins<'a>(mut self, origins: impl IntoIterator<Item = &'a String>) -> Self {
        for origin in origins {
            self.any_origin |= origin == "*";
            self.origins.push(origin.to_ascii_lowercase());
        }
        self
    }

    /// Checks a request: `authority` is that of its target, if it has one (`GET http://name/ HTTP/1.1`, or
    /// `:authority` of HTTP/2), `values` gives the values of a header.
    pub fn check<'a, V>(
        &self,
        authority: Option<&str>,
        values: impl Fn(&'static str) -> V,
    ) -> Result<(), Refusal>
    where
        V: Iterator<Item = &'a [u8]>,
    {
        let mut hosts = values("host");
        let host = match (hosts.next(), authority) {
            (Some(host), _) => str::from_utf8(host).map_err(|_| Refusal::HostMalformed)?,
            // HTTP/2 has the authority in Host's stead (RFC 9113, 8.3.1).
            (None, Some(authority)) => authority,
            (None, None) => return Err(Refusal::HostMissing),
        };
        if hosts.next().is_some() {
            return Err(Refusal::HostRepeated);
        }
        self.check_authority(host)?;
        // RFC 9112, 3.2.2 has the name in the target win over Host, so both must be welcome.
        if let Some(authority) = authority {
            self.check_authority(authority)?;
        }
        let mut listed = false;
        for origin in values("origin") {
            if !self.allows_origin(origin, host) {
                return Err(Refusal::OtherSite);
            }
            listed = true;
        }
        // A page of a listed origin is of another site nevertheless, and its browser says so.
        if !listed && values("sec-fetch-site").any(|site| site == b"cross-site") {
            return Err(Refusal::OtherSite);
        }
        Ok(())
    }

    fn check_authority(&self, authority: &str) -> Result<(), Refusal> {
        match Host::parse(authority).ok_or(Refusal::HostMalformed)? {
            Host::Address => Ok(()),
            Host::Name(name) if self.any_name || self.names.contains(&name) => Ok(()),
            Host::Name(name) => Err(Refusal::HostDenied { name, section: self.section }),
        }
    }

    /// An origin is ours when it is what the browser was told to talk to, name and port: another port is
    /// another program. `null` (a sandbox, a file) is nobody's, even where every origin is welcome.
    fn allows_origin(&self, origin: &[u8], host: &str) -> bool {
        let Ok(origin) = str::from_utf8(origin) else { return false };
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let own = matches!(scheme, "http" | "https") && authority.eq_ignore_ascii_case(host);
        own || self.any_origin || self.origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn site(hosts: &[&str]) -> Site {
        Site::new("http", &hosts.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
    }

    fn check(site: &Site, authority: Option<&str>, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        site.check(authority, |name| {
            headers.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_bytes())
        })
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
            assert_eq!(check(&site(&["Gateway.internal"]), None, &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn other_names_are_refused_unless_all_are_allowed() {
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:8080", "0x7f.1", "2130706433"]
        {
            let refused = check(&site(&[]), None, &[("host", host)]);
            assert!(matches!(refused, Err(Refusal::HostDenied { .. })), "{host}: {refused:?}");
            assert_eq!(check(&site(&["*"]), None, &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_refused_name_comes_with_the_setting_that_would_allow_it() {
        let refused = check(&site(&[]), None, &[("host", "gateway.internal")]).unwrap_err().to_string();
        assert!(refused.contains("http.hosts (IPC_GATEWAY__HTTP__HOSTS)"), "{refused}");
    }

    #[test]
    fn a_host_that_is_not_one_is_malformed() {
        let any = site(&["*"]);
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
            assert_eq!(check(&any, None, &[("host", host)]), Err(Refusal::HostMalformed), "{host:?}");
        }
        assert_eq!(check(&any, None, &[("host", &"a".repeat(261))]), Err(Refusal::HostMalformed));
        assert_eq!(check(&any, None, &[]), Err(Refusal::HostMissing));
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(check(&any, None, &twice), Err(Refusal::HostRepeated));
        assert_eq!(any.check(None, |_| [&b"\xff"[..]].into_iter()), Err(Refusal::HostMalformed));
    }

    #[test]
    fn the_name_in_the_target_counts_too_and_stands_in_for_host() {
        let own = site(&[]);
        let denied = Refusal::HostDenied { name: "evil.example".into(), section: "http" };
        assert_eq!(check(&own, Some("evil.example"), &[("host", "localhost")]), Err(denied.clone()));
        assert_eq!(check(&own, Some("evil.example"), &[]), Err(denied));
        assert_eq!(check(&own, Some("localhost"), &[("host", "localhost")]), Ok(()));
        let page = [("origin", "http://localhost:8081")];
        assert_eq!(check(&own, Some("localhost:8081"), &page), Ok(()));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let any = site(&["*"]);
        for origin in [
            "http://evil.example",
            "null",
            "http://localhost:3000",
            "localhost:8080",
            "file://localhost:8080",
        ] {
            let refused = check(&any, None, &[("host", "localhost:8080"), ("origin", origin)]);
            assert_eq!(refused, Err(Refusal::OtherSite), "{origin}");
        }
        let own = ("origin", "http://localhost:8080");
        assert_eq!(check(&any, None, &[("host", "localhost:8080"), own]), Ok(()));
        let two = [("host", "localhost:8080"), own, ("origin", "http://evil.example")];
        assert_eq!(check(&any, None, &two), Err(Refusal::OtherSite));
        let fetched = |site| check(&any, None, &[("host", "127.0.0.1"), ("sec-fetch-site", site)]);
        assert_eq!(fetched("cross-site"), Err(Refusal::OtherSite));
        assert_eq!((fetched("none"), fetched("same-origin")), (Ok(()), Ok(())));
    }

    #[test]
    fn pages_of_listed_origins_are_answered_and_null_never() {
        let listed = site(&[]).with_origins(&["https://App.example".to_owned()]);
        let any = site(&[]).with_origins(&["*".to_owned()]);
        let from = |site: &Site, origin| {
            check(site, None, &[("host", "localhost"), ("origin", origin), ("sec-fetch-site", "cross-site")])
        };
        assert_eq!(from(&listed, "https://app.example"), Ok(()));
        assert_eq!(from(&any, "https://other.example"), Ok(()));
        for refused in ["http://app.example", "https://app.example:444", "https://app.example.evil", "null"] {
            assert_eq!(from(&listed, refused), Err(Refusal::OtherSite), "{refused}");
        }
        assert_eq!(from(&any, "null"), Err(Refusal::OtherSite));
        let silent = [("host", "localhost"), ("sec-fetch-site", "cross-site")];
        assert_eq!(check(&any, None, &silent), Err(Refusal::OtherSite), "no page that says who it is");
    }
}
