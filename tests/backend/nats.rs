//! The NATS backend: the suite's rig over a real server, once for every way to connect.

use std::marker::PhantomData;
use std::path::Path;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, HeaderMap, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use ipc_gateway::backend::Backend;
use ipc_gateway::backend::nats::{Credentials, Nats, Settings, Tls};
use nkeys::KeyPair;
use tempfile::TempDir;
use tokio::task::AbortHandle;

use crate::certificates;
use crate::nats_server::NatsServer;
use crate::operator::Operator;
use crate::suite::{self, Behaviour, Heard, Listener, Rig};

mod plain {
    super::suite::conformance!(super::Real<super::Plain>);
}
mod tls {
    super::suite::conformance!(super::Real<super::MutualTls>);
}
mod tls_first {
    super::suite::conformance!(super::Real<super::TlsFirst>);
}
mod user_password {
    super::suite::conformance!(super::Real<super::UserPassword>);
}
mod user_in_address {
    super::suite::conformance!(super::Real<super::UserInAddress>);
}
mod token {
    super::suite::conformance!(super::Real<super::Token>);
}
mod nkey {
    super::suite::conformance!(super::Real<super::Nkey>);
}
mod credentials_file {
    super::suite::conformance!(super::Real<super::CredentialsFile>);
}

/// 8 MiB, the size that the suite is made for.
const PAYLOAD_BYTES_MAX: usize = 8 << 20;
/// Small, so that a case can fill a queue; above what a case lets wait unread.
const CAPACITY: usize = 512;

/// A way to connect.
trait Way {
    /// Lines of the server's configuration, whose files are in (or put into) `directory`.
    fn server(directory: &Path) -> String;
    /// How the gateway is told to connect.
    fn settings(settings: Settings, directory: &Path) -> Settings;
}

/// A real server, the backend connected to it in the way `W`, and an outside party in the same way.
struct Real<W> {
    backend: Nats,
    outside: Client,
    _server: NatsServer,
    _way: PhantomData<W>,
}

impl<W: Way> Rig for Real<W> {
    type Backend = Nats;
    type Listener = Subscriber;
    type Responder = Task;

    async fn open() -> Self {
        let directory = TempDir::new().unwrap();
        let config = format!("max_payload: {PAYLOAD_BYTES_MAX}\n{}", W::server(directory.path()));
        let server = NatsServer::start_in(directory, &config);
        let base = Settings {
            servers: vec![server.url().parse().unwrap()],
            subscription_capacity: CAPACITY,
            ..Settings::default()
        };
        let settings = W::settings(base, server.directory());
        let backend = Nats::open(settings.clone()).unwrap();
        backend.reachable().await;
        let outside = outside(&settings, server.port()).await;
        Self { backend, outside, _server: server, _way: PhantomData }
    }

    fn backend(&self) -> &Nats {
        &self.backend
    }

    fn payload_bytes_fits(&self) -> usize {
        // The server counts headers too; a small request's are well under this.
        PAYLOAD_BYTES_MAX - 2048
    }

    fn payload_bytes_refused(&self) -> usize {
        PAYLOAD_BYTES_MAX
    }

    fn subscription_capacity(&self) -> usize {
        CAPACITY
    }

    fn waiting(&self) -> u64 {
        reading(&self.backend, "ipc_gateway_nats_inbox_slots")
    }

    fn subscriptions(&self) -> u64 {
        reading(&self.backend, "ipc_gateway_nats_subscriptions")
    }

    async fn respond(&self, pattern: &str, queue: Option<&str>, behaviour: Behaviour) -> Task {
        let mut subscriber = self.listen(pattern, queue).await;
        let client = self.outside.clone();
        let task = tokio::spawn(async move {
            while let Some(message) = subscriber.next().await {
                tokio::time::sleep(behaviour.delay).await;
                let Some(reply) = message.reply else { continue };
                for (pairs, payload) in behaviour.answers(&message.payload) {
                    client.publish_with_headers(reply.clone(), headers(&pairs), payload).await.unwrap();
                }
            }
        });
        Task(task.abort_handle())
    }

    async fn listen(&self, pattern: &str, queue: Option<&str>) -> Subscriber {
        let pattern = pattern.to_owned();
        let subscriber = match queue {
            Some(queue) => self.outside.queue_subscribe(pattern, queue.to_owned()).await.unwrap(),
            None => self.outside.subscribe(pattern).await.unwrap(),
        };
        round_trip(&self.outside).await;
        subscriber
    }

    async fn publish(&self, subject: &str, pairs: &[(&str, &str)], payload: Bytes) {
        let subject = subject.to_owned();
        self.outside.publish_with_headers(subject, headers(pairs), payload).await.unwrap();
        round_trip(&self.outside).await;
    }

    async fn close(self) {
        self.backend.close().await;
        assert_eq!(reading(&self.backend, "ipc_gateway_nats_tasks"), 0, "a task is left");
        self.outside.drain().await.unwrap();
    }
}

/// A responder's task.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listener for Subscriber {
    async fn hear(&mut self) -> Heard {
        let message = self.next().await.expect("the outside party is connected");
        let headers = message.headers.unwrap_or_default();
        let pairs = headers.iter().flat_map(|(name, values)| {
            values.iter().map(move |value| (name.to_string(), value.as_str().to_owned()))
        });
        Heard { subject: message.subject.to_string(), headers: pairs.collect(), payload: message.payload }
    }
}

/// Sends a message to itself: when it is back, the server has read all that went before.
async fn round_trip(client: &Client) {
    let inbox = client.new_inbox();
    let mut back = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, Bytes::new()).await.unwrap();
    back.next().await.unwrap();
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, *value);
    }
    map
}

fn reading(backend: &Nats, name: &str) -> u64 {
    let values = backend.readings().into_iter().filter(|reading| reading.name == name);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    values.map(|reading| reading.value as u64).sum()
}

async fn outside(settings: &Settings, port: u16) -> Client {
    let mut options = ConnectOptions::new().connection_timeout(Duration::from_secs(10));
    if let Some(ca) = &settings.tls.ca {
        options = options.add_root_certificates(ca.clone()).require_tls(true);
    }
    if let (Some(certificate), Some(key)) = (&settings.tls.certificate, &settings.tls.key) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    if settings.tls.first {
        options = options.tls_first();
    }
    let options = match &settings.credentials {
        // What stands in the address, if anything does there.
        Credentials::None => options.user_and_password("gateway".into(), "p@ss".into()),
        Credentials::UserPassword { user, password } => {
            options.user_and_password(user.clone(), password.clone())
        }
        Credentials::Token(token) => options.token(token.clone()),
        Credentials::NkeySeed(seed) => options.nkey(seed.clone()),
        Credentials::CredentialsFile(path) => options.credentials_file(path).await.unwrap(),
        Credentials::CredentialsText(text) => options.credentials(text).unwrap(),
    };
    options.connect(format!("nats://127.0.0.1:{port}")).await.unwrap()
}

/// Without anything.
struct Plain;

impl Way for Plain {
    fn server(_: &Path) -> String {
        String::new()
    }

    fn settings(settings: Settings, _: &Path) -> Settings {
        settings
    }
}

/// TLS, where each side shows a certificate of the same authority.
struct MutualTls;

const TLS_FILES: &str = "cert_file: server.pem, key_file: server.key, ca_file: ca.pem, timeout: 10";

impl Way for MutualTls {
    fn server(directory: &Path) -> String {
        certificates::write(directory);
        format!("tls {{ {TLS_FILES}, verify: true }}")
    }

    fn settings(settings: Settings, directory: &Path) -> Settings {
        let file = |name: &str| Some(directory.join(name));
        let tls = Tls {
            required: true,
            ca: file("ca.pem"),
            certificate: file("client.pem"),
            key: file("client.key"),
            first: false,
        };
        Settings { tls, ..settings }
    }
}

/// TLS before the first word.
struct TlsFirst;

impl Way for TlsFirst {
    fn server(directory: &Path) -> String {
        certificates::write(directory);
        format!("tls {{ {TLS_FILES}, handshake_first: true }}")
    }

    fn settings(settings: Settings, directory: &Path) -> Settings {
        let tls = Tls { ca: Some(directory.join("ca.pem")), first: true, ..Tls::default() };
        Settings { tls, ..settings }
    }
}

/// A user and a password.
struct UserPassword;

const USER: &str = "authorization { user: gateway, password: \"p@ss\" }";

impl Way for UserPassword {
    fn server(_: &Path) -> String {
        USER.into()
    }

    fn settings(settings: Settings, _: &Path) -> Settings {
        let credentials = Credentials::UserPassword { user: "gateway".into(), password: "p@ss".into() };
        Settings { credentials, ..settings }
    }
}

/// A user and a password in the server's address.
struct UserInAddress;

impl Way for UserInAddress {
    fn server(_: &Path) -> String {
        USER.into()
    }

    fn settings(settings: Settings, _: &Path) -> Settings {
        let address = settings.servers[0].redacted().replace("nats://", "nats://gateway:p%40ss@");
        Settings { servers: vec![address.parse().unwrap()], ..settings }
    }
}

/// A token.
struct Token;

impl Way for Token {
    fn server(_: &Path) -> String {
        "authorization { token: s3cret }".into()
    }

    fn settings(settings: Settings, _: &Path) -> Settings {
        Settings { credentials: Credentials::Token("s3cret".into()), ..settings }
    }
}

/// A user's nkey.
struct Nkey;

impl Way for Nkey {
    fn server(directory: &Path) -> String {
        let user = KeyPair::new_user();
        std::fs::write(directory.join("seed"), user.seed().unwrap()).unwrap();
        format!("authorization {{ users: [ {{ nkey: {} }} ] }}", user.public_key())
    }

    fn settings(settings: Settings, directory: &Path) -> Settings {
        let seed = std::fs::read_to_string(directory.join("seed")).unwrap();
        Settings { credentials: Credentials::NkeySeed(seed), ..settings }
    }
}

/// A user's JWT and nkey in a credentials file.
struct CredentialsFile;

impl Way for CredentialsFile {
    fn server(directory: &Path) -> String {
        let operator = Operator::new();
        std::fs::write(directory.join("user.creds"), operator.credentials).unwrap();
        operator.server
    }

    fn settings(settings: Settings, directory: &Path) -> Settings {
        Settings { credentials: Credentials::CredentialsFile(directory.join("user.creds")), ..settings }
    }
}
