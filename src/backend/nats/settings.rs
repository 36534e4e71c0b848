//! The settings of the NATS backend: a plain value, checked as a whole before anything is connected.
//!
//! What can be wrong here is wrong at start, with its place named: an address that cannot be parsed, a file
//! that cannot be read (`check.rs`). A server that cannot be reached is not wrong; it is waited for.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use async_nats::ServerAddr;

use super::check::OpenError;

/// The most connections a pool may have: each is a socket, a task and an inbox.
pub const POOL_MAX: usize = 256;
/// The most bytes of an inbox prefix: it is part of every reply subject, which shares the server's control
/// line of 4,096 bytes with the subject.
pub const INBOX_PREFIX_BYTES_MAX: usize = 128;

/// Everything that can be set. Durations are waits; counts are limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Servers, such as `nats://host:4222` or `tls://host:4222`, at least one; a user and password (or a
    /// token) may stand in an address, and apply when [`Settings::credentials`] are none.
    pub servers: Vec<Address>,
    /// Also use the other servers of a cluster that a server tells of.
    pub discover: bool,
    /// What this client calls itself to the server.
    pub name: String,
    /// Connections that are always kept, 1 to [`POOL_MAX`].
    pub pool_min: usize,
    /// Connections that may be opened under load, from `pool_min` to [`POOL_MAX`].
    pub pool_max: usize,
    /// Messages in flight on a connection, on the average over those there are, above which another is opened.
    /// Above it on one connection, clients move from it to another that has at most half as many, as soon as nothing
    /// of theirs can be on its way.
    pub in_flight_per_connection: usize,
    /// How long fewer connections must have been enough before one is closed.
    pub idle_shrink: Duration,
    /// How long connecting, with TLS and authentication, may take.
    pub connect_timeout: Duration,
    /// Attempts in a row after which a connection is given up; 0 tries for ever.
    pub reconnect_attempts_max: usize,
    /// The longest wait between two attempts; each wait is a random part of a bound that doubles up to this.
    pub reconnect_delay_max: Duration,
    /// How often the server is pinged; after two pings without an answer, at the third, the connection ends.
    pub ping_interval: Duration,
    /// How often the round trip is measured.
    pub probe_interval: Duration,
    /// What reply subjects begin with. No peer can publish or subscribe below it.
    pub inbox_prefix: String,
    /// Requests in flight per connection, at most 16,777,200; beyond, they are refused as `overloaded`.
    pub inbox_slots_max: usize,
    /// Unread messages a subscription keeps; beyond, the oldest is dropped and told as a gap.
    pub subscription_capacity: usize,
    /// Unread bytes a subscription keeps (at least one message of any size); beyond, as above.
    pub subscription_bytes_max: usize,
    /// Messages that wait to be written per connection; beyond, publishing waits.
    pub publish_queue: usize,
    /// Bytes that wait to be written per connection (a single larger message fits alone, and messages of up to
    /// 4 KiB are counted 64 KiB at once); beyond, requests are refused as `overloaded` and publishing waits.
    pub publish_queue_bytes_max: usize,
    /// Who this client is.
    pub credentials: Credentials,
    /// Transport security.
    pub tls: Tls,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            discover: true,
            name: "ipc-gateway".into(),
            pool_min: 2,
            pool_max: 10,
            in_flight_per_connection: 256,
            idle_shrink: Duration::from_mins(1),
            connect_timeout: Duration::from_secs(5),
            reconnect_attempts_max: 0,
            reconnect_delay_max: Duration::from_secs(5),
            ping_interval: Duration::from_secs(10),
            probe_interval: Duration::from_secs(5),
            inbox_prefix: "_INBOX".into(),
            inbox_slots_max: 16_384,
            subscription_capacity: 4_096,
            subscription_bytes_max: 16 * 1024 * 1024,
            publish_queue: 2_048,
            publish_queue_bytes_max: 16 * 1024 * 1024,
            credentials: Credentials::None,
            tls: Tls::default(),
        }
    }
}

/// The address of a server. Shown without what it holds of user, password or token.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(ServerAddr);

impl Address {
    /// Its text without secrets: scheme, host and port.
    pub fn redacted(&self) -> String {
        let host = self.0.host();
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        format!("{}://{open}{host}{close}:{}", self.0.scheme(), self.0.port())
    }

    /// Another server that this one told of, as `host:port`: with the scheme of this address and what it
    /// holds of user and password, so that nobody is led from TLS to plain text. `None` if it is no address.
    pub(super) fn beside(&self, other: &str) -> Option<Self> {
        let other: Self = other.parse().ok()?;
        let mut address = self.0.clone().into_inner();
        address.set_host(other.0.clone().into_inner().host_str()).ok()?;
        address.set_port(Some(other.0.port())).ok()?;
        ServerAddr::from_url(address).ok().map(Self)
    }

    /// The library's own form.
    pub(super) fn server(&self) -> &ServerAddr {
        &self.0
    }

    /// User and password, or a token, that the address holds.
    pub(super) fn credentials(&self) -> Option<Credentials> {
        let user = decode_percent(self.0.username()?);
        Some(match self.0.password() {
            Some(password) => Credentials::UserPassword { user, password: decode_percent(password) },
            None => Credentials::Token(user),
        })
    }
}

impl FromStr for Address {
    type Err = OpenError;

    /// Parses one address; without a scheme it is `nats://`, without a port 4222.
    fn from_str(text: &str) -> Result<Self, OpenError> {
        let bad = |reason: &str| OpenError::new("urls", reason);
        // The parser's own words may repeat the address, and with it a password: they are not passed on.
        let address = text
            .trim()
            .parse::<ServerAddr>()
            .map_err(|_| bad("not an address of a NATS server: write nats://host:port or tls://host:port"))?;
        if !matches!(address.scheme(), "nats" | "tls") {
            return Err(bad("the scheme must be nats or tls"));
        }
        if address.host().is_empty() {
            return Err(bad("an address needs a host"));
        }
        Ok(Self(address))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.redacted())
    }
}

/// Parses a comma list of addresses, as `NATS_URL` has it. The error says which of them is wrong by its
/// place in the list and never repeats it, because an address may hold a password.
pub fn parse_servers(list: &str) -> Result<Vec<Address>, OpenError> {
    let texts = list.split(',').map(str::trim).filter(|text| !text.is_empty());
    let parsed = texts.enumerate().map(|(index, text)| {
        text.parse().map_err(|error: OpenError| OpenError {
            reason: format!("address {} of the list: {}", index + 1, error.reason),
            ..error
        })
    });
    let servers: Vec<_> = parsed.collect::<Result<_, _>>()?;
    if servers.is_empty() {
        Err(OpenError::new("urls", "at least one address is needed"))
    } else {
        Ok(servers)
    }
}

/// A key-value bucket of JetStream. All but the name counts only when it is made.
#[derive(Clone, Debug)]
pub struct BucketSettings {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// Its largest size in bytes. A full one takes nothing new.
    pub bytes_max: u64,
    /// Servers that keep it, 1 to 5.
    pub replicas: u8,
    /// How long a value is kept.
    pub age_max: Duration,
}

/// Who the gateway is to the server. Files are read again at every attempt to connect, so a rotated secret
/// is in force from the next reconnect.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nobody.
    #[default]
    None,
    /// A user and a password.
    UserPassword {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
    /// The seed of a user's nkey (`SU…`).
    NkeySeed(String),
    /// A credentials file: a user's JWT and nkey seed between their markers.
    CredentialsFile(PathBuf),
    /// The text of a credentials file.
    CredentialsText(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("None"),
            Self::UserPassword { user, .. } => write!(formatter, "UserPassword({user:?}, ..)"),
            Self::Token(_) => formatter.write_str("Token(..)"),
            Self::NkeySeed(_) => formatter.write_str("NkeySeed(..)"),
            Self::CredentialsFile(path) => write!(formatter, "CredentialsFile({})", path.display()),
            Self::CredentialsText(_) => formatter.write_str("CredentialsText(..)"),
        }
    }
}

/// Transport security. A server that demands it, and a `tls://` address, get it without any of this.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Never go on without it, whatever the server says.
    pub required: bool,
    /// PEM file of the authorities that servers' certificates may come from; the system's if absent.
    pub ca: Option<PathBuf>,
    /// PEM file of this client's certificate chain; goes with `key`.
    pub certificate: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    pub key: Option<PathBuf>,
    /// Begin with the TLS handshake, before the server's first words (`handshake_first` on the server).
    pub first: bool,
}

/// Decodes `%xx` (RFC 3986 section 2.1); what is not such a sequence stays as it is.
fn decode_percent(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let decoded = match (first, tail) {
            (b'%', [high, low, ..]) => [*high, *low]
                .iter()
                .try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
                .and_then(|byte| u8::try_from(byte).ok()),
            _ => None,
        };
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_shown_without_secrets() {
        let servers =
            parse_servers("localhost, nats://u:p%40ss@h:1 ,tls://[::1]:4,nats://to%6ben@h").unwrap();
        let shown: Vec<_> = servers.iter().map(Address::redacted).collect();
        assert_eq!(shown, ["nats://localhost:4222", "nats://h:1", "tls://[::1]:4", "nats://h:4222"]);
        assert!(!format!("{servers:?}").contains("p%40ss"));
        assert!(servers[0].credentials().is_none());
        assert!(matches!(servers[1].credentials(), Some(Credentials::UserPassword { user, password })
            if user == "u" && password == "p@ss"));
        assert!(matches!(servers[3].credentials(), Some(Credentials::Token(token)) if token == "token"));
    }

    #[test]
    fn a_neighbour_keeps_scheme_and_credentials() {
        let address: Address = "tls://u:p@a:1".parse().unwrap();
        let neighbour = address.beside("10.0.0.1:4333").unwrap();
        assert_eq!(neighbour.redacted(), "tls://10.0.0.1:4333");
        assert!(matches!(neighbour.credentials(), Some(Credentials::UserPassword { .. })));
        assert_eq!(address.beside("[::1]:5").unwrap().redacted(), "tls://[::1]:5");
        assert_eq!(address.beside("http://h"), None);
    }

    #[test]
    fn a_bad_address_is_named_by_its_place_and_not_repeated() {
        for bad in
            ["nats://u:hunter2@:x", "http://u:hunter2@h", "ws://u:hunter2@h", "nats://u:hunter2@h:99999"]
        {
            let error = parse_servers(&format!("nats://ok:1,{bad}")).unwrap_err();
            assert_eq!(error.setting, "urls");
            assert!(error.reason.starts_with("address 2 of the list"), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert!(parse_servers(" , ").is_err());
    }
}
