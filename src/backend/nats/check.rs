//! What is wrong with settings, all of it at once.
//!
//! Each problem names the key of the configuration that the setting comes from, because that is what its reader
//! can change; none repeats a value that may be a secret.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use async_nats::rustls::pki_types::pem::PemObject as _;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use contract::Subject;

use super::inbox;
use super::settings::{Credentials, INBOX_PREFIX_BYTES_MAX, POOL_MAX, Settings, Tls};

/// One thing that keeps the backend from being opened. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nats.{setting}: {reason}")]
pub struct OpenError {
    /// The key in the configuration, without `nats.` before it.
    pub setting: &'static str,
    /// What is wrong, and where.
    pub reason: String,
    /// Whether it is only that a file does not exist, as on a machine without the secrets.
    pub missing_file: bool,
}

impl OpenError {
    pub(super) fn new(setting: &'static str, reason: impl Into<String>) -> Self {
        Self { setting, reason: reason.into(), missing_file: false }
    }
}

/// Everything that keeps the backend from being opened; at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenErrors(pub Vec<OpenError>);

impl fmt::Display for OpenErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            write!(formatter, "{between}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for OpenErrors {}

impl From<OpenError> for OpenErrors {
    fn from(error: OpenError) -> Self {
        Self(vec![error])
    }
}

impl Settings {
    /// Checks limits and reads every file once. Fails with everything that is wrong.
    pub fn check(&self) -> Result<(), OpenErrors> {
        let mut found = Found::default();
        found.positive("urls", self.servers.len());
        found.range("pool_connections_min", self.pool_min, 1, POOL_MAX);
        found.range("pool_connections_max", self.pool_max, self.pool_min.clamp(1, POOL_MAX), POOL_MAX);
        found.positive("in_flight_per_connection", self.in_flight_per_connection);
        found.range("inbox_slots_max", self.inbox_slots_max, 1, inbox::SLOTS_MAX);
        found.positive("subscription_capacity", self.subscription_capacity);
        found.positive("subscription_bytes_max", self.subscription_bytes_max);
        found.positive("publish_queue", self.publish_queue);
        found.range("publish_queue_bytes_max", self.publish_queue_bytes_max, 1, u32::MAX as usize);
        found.lasting("idle_shrink_ms", self.idle_shrink);
        found.lasting("connect_timeout_ms", self.connect_timeout);
        found.lasting("reconnect_delay_ms_max", self.reconnect_delay_max);
        found.lasting("ping_interval_ms", self.ping_interval);
        found.lasting("probe_interval", self.probe_interval);
        if self.inbox_prefix.len() > INBOX_PREFIX_BYTES_MAX {
            found.add("inbox_prefix", format!("must have at most {INBOX_PREFIX_BYTES_MAX} bytes"));
        } else if let Err(error) = Subject::parse(self.inbox_prefix.as_str()) {
            found.add("inbox_prefix", error.to_string());
        }
        self.tls.check(&mut found);
        self.credentials.check(&mut found);
        if found.0.is_empty() { Ok(()) } else { Err(OpenErrors(found.0)) }
    }
}

/// What was found so far.
#[derive(Default)]
struct Found(Vec<OpenError>);

impl Found {
    fn add(&mut self, setting: &'static str, reason: impl Into<String>) {
        self.0.push(OpenError::new(setting, reason));
    }

    fn positive(&mut self, setting: &'static str, value: usize) {
        if value == 0 {
            self.add(setting, "must be at least 1");
        }
    }

    fn range(&mut self, setting: &'static str, value: usize, least: usize, most: usize) {
        if !(least..=most).contains(&value) {
            self.add(setting, format!("must be {least} to {most}"));
        }
    }

    fn lasting(&mut self, setting: &'static str, value: Duration) {
        if value.is_zero() {
            self.add(setting, "must be longer than zero");
        }
    }

    fn read(&mut self, setting: &'static str, path: &Path) -> Option<Vec<u8>> {
        let error = match std::fs::read(path) {
            Ok(text) => return Some(text),
            Err(error) => error,
        };
        let reason = format!("{} cannot be read: {error}", path.display());
        let missing_file = error.kind() == ErrorKind::NotFound;
        self.0.push(OpenError { missing_file, ..OpenError::new(setting, reason) });
        None
    }

    fn certificates(&mut self, setting: &'static str, path: &Path) {
        let Some(text) = self.read(setting, path) else { return };
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        if certificates.is_err() || certificates.is_ok_and(|certificates| certificates.is_empty()) {
            self.add(setting, format!("{}: holds no certificate in PEM", path.display()));
        }
    }
}

impl Credentials {
    fn check(&self, found: &mut Found) {
        match self {
            Self::None | Self::UserPassword { .. } | Self::Token(_) => {}
            Self::NkeySeed(seed) => {
                let pair = nkeys::KeyPair::from_seed(seed);
                if pair.is_ok_and(|pair| pair.key_pair_type() == nkeys::KeyPairType::User) {
                    return;
                }
                let reason = "not the seed of a user's nkey: it begins with SU and has 58 characters";
                found.add("nkey_seed", reason);
            }
            Self::CredentialsFile(path) => {
                let Some(text) = found.read("credentials_file", path) else { return };
                if !credentials_are_good(&String::from_utf8(text).unwrap_or_default()) {
                    let reason = format!("{}: holds no user JWT and nkey seed", path.display());
                    found.add("credentials_file", reason);
                }
            }
            Self::CredentialsText(text) => {
                if !credentials_are_good(text) {
                    found.add("credentials_text", "holds no user JWT and nkey seed");
                }
            }
        }
    }
}

/// Whether the library takes it; its own words are not passed on, because they may repeat what they read.
fn credentials_are_good(text: &str) -> bool {
    async_nats::ConnectOptions::with_credentials(text).is_ok()
}

impl Tls {
    fn check(&self, found: &mut Found) {
        if let Some(ca) = &self.ca {
            found.certificates("tls_ca_file", ca);
        }
        if let Some(certificate) = &self.certificate {
            found.certificates("tls_certificate_file", certificate);
        }
        if let Some(key) = &self.key
            && let Some(text) = found.read("tls_key_file", key)
            && PrivateKeyDer::from_pem_slice(&text).is_err()
        {
            found.add("tls_key_file", format!("{}: holds no private key in PEM", key.display()));
        }
        match (&self.certificate, &self.key) {
            (Some(_), None) => found.add("tls_key_file", "a certificate needs its key"),
            (None, Some(_)) => found.add("tls_certificate_file", "a key needs its certificate"),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::settings::parse_servers;
    use super::*;

    fn good() -> Settings {
        Settings { servers: parse_servers("nats://localhost:4222").unwrap(), ..Settings::default() }
    }

    /// The keys that are wrong.
    fn wrong(settings: &Settings) -> Vec<&'static str> {
        let errors = settings.check().err().map(|errors| errors.0);
        errors.into_iter().flatten().map(|error| error.setting).collect()
    }

    #[test]
    fn the_defaults_are_good_once_a_server_is_named() {
        assert_eq!(good().check(), Ok(()));
        assert_eq!(wrong(&Settings::default()), ["urls"]);
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
        let both = |path: &Path| Tls {
            certificate: Some(path.to_owned()),
            key: Some(path.to_owned()),
            ..Tls::default()
        };
        let cases: [(Settings, &[&str]); 14] = [
            (Settings { pool_min: 0, ..good() }, &["pool_connections_min"]),
            (Settings { pool_min: 5, pool_max: 4, ..good() }, &["pool_connections_max"]),
            (Settings { inbox_prefix: "a..b".into(), ..good() }, &["inbox_prefix"]),
            (Settings { inbox_prefix: "a.*".into(), ..good() }, &["inbox_prefix"]),
            (Settings { inbox_slots_max: 0, ..good() }, &["inbox_slots_max"]),
            (Settings { ping_interval: Duration::ZERO, ..good() }, &["ping_interval_ms"]),
            (tls(Tls { ca: Some(missing.clone()), ..Tls::default() }), &["tls_ca_file"]),
            (tls(Tls { ca: Some(text.clone()), ..Tls::default() }), &["tls_ca_file"]),
            (tls(both(&text)), &["tls_certificate_file", "tls_key_file"]),
            (tls(both(&missing)), &["tls_certificate_file", "tls_key_file"]),
            (credentials(Credentials::NkeySeed("SUX".into())), &["nkey_seed"]),
            (
                credentials(Credentials::NkeySeed(nkeys::KeyPair::new_account().seed().unwrap())),
                &["nkey_seed"],
            ),
            (credentials(Credentials::CredentialsFile(text)), &["credentials_file"]),
            (credentials(Credentials::CredentialsText(String::new())), &["credentials_text"]),
        ];
        for (settings, keys) in cases {
            assert_eq!(wrong(&settings), keys, "{settings:?}");
        }
        let seed = nkeys::KeyPair::new_user().seed().unwrap();
        assert_eq!(credentials(Credentials::NkeySeed(seed)).check(), Ok(()));
    }

    #[test]
    fn all_that_is_wrong_is_told_and_what_is_only_missing_is_marked() {
        let directory = tempfile::tempdir().unwrap();
        let junk = directory.path().join("junk");
        std::fs::write(&junk, "junk").unwrap();
        let settings = Settings {
            pool_max: 0,
            tls: Tls { ca: Some(junk), ..Tls::default() },
            credentials: Credentials::CredentialsFile(directory.path().join("missing.creds")),
            ..good()
        };
        let errors = settings.check().unwrap_err().0;
        let told: Vec<_> = errors.iter().map(|error| (error.setting, error.missing_file)).collect();
        let due = [("pool_connections_max", false), ("tls_ca_file", false), ("credentials_file", true)];
        assert_eq!(told, due);
    }
}
