//! The settings of the NATS backend: a plain value, checked as a whole before anything is connected.
//!
//! What can be wrong here is wrong at start, with its place named: an address that cannot be parsed, a file
//! that cannot be read. A server that cannot be reached is not wrong; it is waited for.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use async_nats::ServerAddr;
use async_nats::rustls::pki_types::pem::PemObject as _;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use contract::Subject;

use super::inbox;

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
    /// Requests in flight on the least loaded connection above which another one is opened.
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
        let bad = |reason: &str| OpenError::new("servers", reason);
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
            setting: "servers",
            reason: format!("address {} of the list: {}", index + 1, error.reason),
        })
    });
    let servers: Vec<_> = parsed.collect::<Result<_, _>>()?;
    if servers.is_empty() {
        Err(OpenError::new("servers", "at least one address is needed"))
    } else {
        Ok(servers)
    }
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

/// Why the backend was not opened. Names the setting; never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nats.{setting}: {reason}")]
pub struct OpenError {
    /// The setting, as in [`Settings`].
    pub setting: &'static str,
    /// What is wrong, and where.
    pub reason: String,
}

impl OpenError {
    pub(super) fn new(setting: &'static str, reason: impl Into<String>) -> Self {
        Self { setting, reason: reason.into() }
    }
}

impl Settings {
    /// Checks limits and reads every file once. The first thing wrong is told.
    pub fn check(&self) -> Result<(), OpenError> {
        let positive = |setting, value: usize| {
            if value == 0 { Err(OpenError::new(setting, "must be at least 1")) } else { Ok(()) }
        };
        let lasting = |setting, value: Duration| {
            if value.is_zero() { Err(OpenError::new(setting, "must be longer than zero")) } else { Ok(()) }
        };
        positive("servers", self.servers.len())?;
        if !(1..=POOL_MAX).contains(&self.pool_min) {
            return Err(OpenError::new("pool_min", format!("must be 1 to {POOL_MAX}")));
        }
        if !(self.pool_min..=POOL_MAX).contains(&self.pool_max) {
            return Err(OpenError::new("pool_max", format!("must be from pool_min to {POOL_MAX}")));
        }
        positive("in_flight_per_connection", self.in_flight_per_connection)?;
        if !(1..=inbox::SLOTS_MAX).contains(&self.inbox_slots_max) {
            return Err(OpenError::new("inbox_slots_max", format!("must be 1 to {}", inbox::SLOTS_MAX)));
        }
        positive("subscription_capacity", self.subscription_capacity)?;
        positive("subscription_bytes_max", self.subscription_bytes_max)?;
        positive("publish_queue", self.publish_queue)?;
        lasting("idle_shrink", self.idle_shrink)?;
        lasting("connect_timeout", self.connect_timeout)?;
        lasting("reconnect_delay_max", self.reconnect_delay_max)?;
        lasting("ping_interval", self.ping_interval)?;
        lasting("probe_interval", self.probe_interval)?;
        if self.inbox_prefix.len() > INBOX_PREFIX_BYTES_MAX {
            let reason = format!("must have at most {INBOX_PREFIX_BYTES_MAX} bytes");
            return Err(OpenError::new("inbox_prefix", reason));
        }
        Subject::parse(self.inbox_prefix.as_str())
            .map_err(|error| OpenError::new("inbox_prefix", error.to_string()))?;
        self.tls.check()?;
        self.credentials.check()
    }
}

impl Credentials {
    fn check(&self) -> Result<(), OpenError> {
        let seed_is_good = |seed: &str| {
            let bad = "not the seed of a user's nkey: it begins with SU and has 58 characters";
            let pair = nkeys::KeyPair::from_seed(seed).map_err(|_| bad)?;
            if pair.key_pair_type() == nkeys::KeyPairType::User { Ok(()) } else { Err(bad) }
        };
        match self {
            Self::None | Self::UserPassword { .. } | Self::Token(_) => Ok(()),
            Self::NkeySeed(seed) => {
                seed_is_good(seed).map_err(|reason| OpenError::new("credentials.nkey_seed", reason))
            }
            Self::CredentialsFile(path) => {
                let text = read("credentials.file", path)?;
                let text = String::from_utf8(text).unwrap_or_default();
                credentials_are_good(&text).map_err(|()| {
                    let reason = format!("{}: holds no user JWT and nkey seed", path.display());
                    OpenError::new("credentials.file", reason)
                })
            }
            Self::CredentialsText(text) => credentials_are_good(text)
                .map_err(|()| OpenError::new("credentials.text", "holds no user JWT and nkey seed")),
        }
    }
}

/// Whether the library takes it; its own words are not passed on, because they may repeat what they read.
fn credentials_are_good(text: &str) -> Result<(), ()> {
    async_nats::ConnectOptions::with_credentials(text).map(drop).map_err(drop)
}

impl Tls {
    fn check(&self) -> Result<(), OpenError> {
        if let Some(ca) = &self.ca {
            certificates("tls.ca", ca)?;
        }
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                certificates("tls.certificate", certificate)?;
                let text = read("tls.key", key)?;
                PrivateKeyDer::from_pem_slice(&text).map(drop).map_err(|_| {
                    OpenError::new("tls.key", format!("{}: holds no private key in PEM", key.display()))
                })
            }
            (None, None) => Ok(()),
            (Some(_), None) => Err(OpenError::new("tls.key", "a certificate needs its key")),
            (None, Some(_)) => Err(OpenError::new("tls.certificate", "a key needs its certificate")),
        }
    }
}

fn certificates(setting: &'static str, path: &Path) -> Result<(), OpenError> {
    let text = read(setting, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(()),
        _ => Err(OpenError::new(setting, format!("{}: holds no certificate in PEM", path.display()))),
    }
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, OpenError> {
    std::fs::read(path)
        .map_err(|error| OpenError::new(setting, format!("{} cannot be read: {error}", path.display())))
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

    fn good() -> Settings {
        Settings { servers: parse_servers("nats://localhost:4222").unwrap(), ..Settings::default() }
    }

    #[test]
    fn the_defaults_are_good_once_a_server_is_named() {
        assert_eq!(good().check(), Ok(()));
        assert_eq!(Settings::default().check().unwrap_err().setting, "servers");
    }

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
            assert_eq!(error.setting, "servers");
            assert!(error.reason.starts_with("address 2 of the list"), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert!(parse_servers(" , ").is_err());
    }

    #[test]
    fn no_secret_is_shown() {
        let secrets = [
            Credentials::UserPassword { user: "u".into(), password: "hunter2".into() },
            Credentials::Token("hunter2".into()),
            Credentials::NkeySeed("hunter2".into()),
            Credentials::CredentialsText("hunter2".into()),
        ];
        for credentials in secrets {
            let settings = Settings { credentials, ..good() };
            assert!(!format!("{settings:?}").contains("hunter2"));
            if let Err(error) = settings.check() {
                assert!(!error.to_string().contains("hunter2"));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let missing = PathBuf::from("/nowhere/at/all");
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("text");
        std::fs::write(&text, "not pem").unwrap();
        let tls = |tls: Tls| Settings { tls, ..good() };
        let credentials = |credentials| Settings { credentials, ..good() };
        let cases = [
            (Settings { pool_min: 0, ..good() }, "pool_min"),
            (Settings { pool_min: 5, pool_max: 4, ..good() }, "pool_max"),
            (Settings { inbox_prefix: "a..b".into(), ..good() }, "inbox_prefix"),
            (Settings { inbox_prefix: "a.*".into(), ..good() }, "inbox_prefix"),
            (Settings { inbox_slots_max: 0, ..good() }, "inbox_slots_max"),
            (Settings { ping_interval: Duration::ZERO, ..good() }, "ping_interval"),
            (tls(Tls { ca: Some(missing.clone()), ..Tls::default() }), "tls.ca"),
            (tls(Tls { ca: Some(text.clone()), ..Tls::default() }), "tls.ca"),
            (tls(Tls { key: Some(text.clone()), ..Tls::default() }), "tls.certificate"),
            (tls(Tls { certificate: Some(text.clone()), ..Tls::default() }), "tls.key"),
            (credentials(Credentials::NkeySeed("SUX".into())), "credentials.nkey_seed"),
            (
                credentials(Credentials::NkeySeed(nkeys::KeyPair::new_account().seed().unwrap())),
                "credentials.nkey_seed",
            ),
            (credentials(Credentials::CredentialsFile(missing)), "credentials.file"),
            (credentials(Credentials::CredentialsFile(text)), "credentials.file"),
            (credentials(Credentials::CredentialsText(String::new())), "credentials.text"),
        ];
        for (settings, setting) in cases {
            assert_eq!(settings.check().unwrap_err().setting, setting, "{settings:?}");
        }
        let seed = nkeys::KeyPair::new_user().seed().unwrap();
        assert_eq!(credentials(Credentials::NkeySeed(seed)).check(), Ok(()));
    }
}
