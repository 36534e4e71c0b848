//! What no single key can say: settings that contradict each other.
//!
//! A check is left out when one of its settings is already reported, so that one mistake is one problem.

use std::net::IpAddr;

use super::problem::Problem;
use super::resolved::Resolved;
use super::sections::Backend;
use super::value::Value;
use crate::load::chargeable;
use crate::profiles::Profile;

/// The longest path of a socket in bytes, without the closing NUL: `sun_path` in `sockaddr_un`.
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// What the checks found.
pub(super) struct Checks<'a> {
    resolved: &'a Resolved,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Checks<'a> {
    /// Runs all of them.
    pub(super) fn run(resolved: &'a Resolved) -> Self {
        let mut checks = Self { resolved, problems: Vec::new(), warnings: Vec::new() };
        checks.socket();
        checks.backend();
        checks.credentials();
        checks.tls();
        checks.limits();
        checks.listeners();
        checks.http();
        checks.idempotency();
        checks.routes();
        checks
    }

    fn int(&self, path: &str) -> Option<u64> {
        match self.resolved.setting(path).value() {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        }
    }

    fn is(&self, path: &str, wanted: bool) -> bool {
        self.resolved.setting(path).value() == Some(&Value::Bool(wanted))
    }

    fn text(&self, path: &str) -> Option<&str> {
        match self.resolved.setting(path).value() {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list; `None` if it is broken or could not be read.
    fn list(&self, path: &str) -> Option<&'a [Value]> {
        match self.resolved.setting(path).value() {
            Some(Value::List(elements)) => Some(elements),
            _ => None,
        }
    }

    fn is_set(&self, path: &str) -> bool {
        self.resolved.setting(path).is_set()
    }

    /// A problem of `path`, told with its value and source.
    fn refuse(&mut self, path: &str, what: impl Into<String>, allowed: &str) {
        let setting = self.resolved.setting(path);
        let problem = Problem {
            source: Some(setting.source.clone()),
            value: setting.value().map(ToString::to_string),
            ..Problem::new(path, what).allowed(allowed)
        };
        self.problems.push(problem);
    }

    /// `low` may not be above `high`.
    fn in_order(&mut self, low: &str, high: &str) {
        if let Some((a, b)) = self.int(low).zip(self.int(high))
            && a > b
        {
            // The one that somebody set is the one to mend.
            if self.is_set(low) {
                self.refuse(low, format!("is above {high}, which is {b}"), &format!("{b} at most"));
            } else {
                self.refuse(high, format!("is below {low}, which is {a}"), &format!("{a} at least"));
            }
        }
    }

    fn socket(&mut self) {
        for (enabled, path) in [("ipc.enabled", "ipc.path"), ("grpc.enabled", "grpc.path")] {
            let too_long = self.text(path).is_some_and(|path| path.len() > SOCKET_PATH_BYTES_MAX);
            if too_long && self.is(enabled, true) {
                let allowed =
                    format!("{SOCKET_PATH_BYTES_MAX} bytes at most, a limit of the operating system");
                self.refuse(path, "is too long for a socket", &allowed);
            }
        }
        let closed = ["ipc.enabled", "http.enabled", "grpc.enabled"].map(|enabled| self.is(enabled, false));
        if closed == [true; 3] {
            let what = "ipc.enabled, http.enabled and grpc.enabled are false, so no door is open";
            self.warnings.push(what.into());
        }
    }

    fn backend(&mut self) {
        let no_urls = self.list("nats.urls").is_some_and(<[Value]>::is_empty);
        let some_urls = self.list("nats.urls").is_some_and(|urls| !urls.is_empty());
        let kind = self.text("backend.kind").map(str::to_owned);
        if kind.as_deref() == Some("nats") && no_urls {
            let allowed = "nats.urls (NATS_URL) names a server, or another kind";
            self.refuse("backend.kind", "demands NATS, but no server is configured", allowed);
        }
        if kind.as_deref() == Some("embedded") && some_urls {
            let source = &self.resolved.setting("backend.kind").source;
            self.warnings.push(format!("backend.kind is embedded ({source}), so nats.urls has no effect"));
        }
        self.in_order("nats.pool_connections_min", "nats.pool_connections_max");
    }

    fn credentials(&mut self) {
        let mut kinds = Vec::new();
        if self.is_set("nats.user") || self.is_set("nats.password") {
            kinds.push("nats.user with nats.password");
        }
        for path in ["nats.token", "nats.nkey_seed", "nats.credentials_file"] {
            if self.is_set(path) {
                kinds.push(path);
            }
        }
        let urls = self.list("nats.urls").unwrap_or_default();
        if urls.iter().any(|url| matches!(url, Value::Url(url) if url.has_credentials())) {
            kinds.push("an address in nats.urls");
        }
        if kinds.len() > 1 {
            let what = format!("has more than one kind of credential: {}", kinds.join(", "));
            self.problems.push(Problem::new("nats", what).allowed("one of them"));
        }
        self.together("nats.user", "nats.password");
    }

    fn tls(&mut self) {
        self.together("nats.tls_certificate_file", "nats.tls_key_file");
        if self.is("nats.tls_first", true) && self.is("nats.tls", false) {
            self.refuse("nats.tls_first", "is set without nats.tls", "nats.tls = true beside it");
        }
    }

    /// Both are set or none is.
    fn together(&mut self, one: &str, other: &str) {
        for (set, unset) in [(one, other), (other, one)] {
            if self.is_set(set) && !self.is_set(unset) {
                self.problems
                    .push(Problem::new(unset, format!("is not set, but {set} is")).allowed("both or none"));
            }
        }
    }

    fn limits(&mut self) {
        self.in_order("limits.timeout_ms", "limits.timeout_ms_max");
        self.memory();
        self.in_order("limits.memory_short_percent", "limits.memory_low_percent");
        self.in_order("limits.memory_low_percent", "limits.memory_high_percent");
        self.in_order("retry.backoff_ms", "retry.backoff_ms_max");
        self.in_order("concurrency.calls_min", "concurrency.calls_start");
        self.in_order("backpressure.interval_ms", "backpressure.believed_ms");
        self.rate("limits.rate_per_second", "limits.rate_burst");
        self.rate("limits.peer_rate_per_second", "limits.peer_rate_burst");
    }

    /// A payload that never fits would be refused as if it were a matter of time.
    fn memory(&mut self) {
        let int = |path: &str| self.int(path).and_then(|number| usize::try_from(number).ok());
        let (process, payload) = (int("limits.memory_bytes_max"), int("limits.payload_bytes_max"));
        let (kept, peers) = (int("idempotency.bytes_max"), int("limits.peers_max"));
        let (Some(process), Some(payload), Some(kept), Some(peers)) = (process, payload, kept, peers) else {
            return;
        };
        let charged = chargeable(process, kept, peers);
        if payload > charged {
            let what = format!(
                "leaves {charged} bytes for messages beside the process itself and idempotency.bytes_max, which is \
                 {kept}: less than limits.payload_bytes_max, which is {payload}"
            );
            self.refuse("limits.memory_bytes_max", what, "more, or less in the other two");
        } else if let Some(low) = int("limits.memory_low_percent")
            && payload.saturating_mul(2) > charged / 100 * low
        {
            self.warnings.push(format!(
                "limits.payload_bytes_max is {payload}, and requests and answers of that size do not fit together below \
                 limits.memory_low_percent of the {charged} bytes that limits.memory_bytes_max leaves for messages: the \
                 largest are refused as overloaded although nothing else is held"
            ));
        }
    }

    fn rate(&mut self, rate: &str, burst: &str) {
        if self.int(rate) == Some(0) && self.int(burst).is_some_and(|burst| burst > 0) {
            self.warnings.push(format!("{burst} has no effect, because {rate} is 0 (no limit)"));
        }
    }

    fn listeners(&mut self) {
        for section in ["http", "grpc", "admin"] {
            let (enabled, path) = (&*format!("{section}.enabled"), &*format!("{section}.address"));
            let address = self.text(path).and_then(|text| text.parse::<IpAddr>().ok());
            if self.is(enabled, true)
                && self.is("allow_anonymous_network", false)
                && address.is_some_and(|address| !address.to_canonical().is_loopback())
            {
                let what = "can be reached from other machines, and the listener asks nobody who they are";
                self.refuse(path, what, "a loopback address, or allow_anonymous_network = true");
            }
        }
    }

    fn http(&mut self) {
        self.in_order("http.header_timeout_ms", "http.keep_alive_ms");
        for (one, other) in [("http", "admin"), ("grpc", "admin"), ("grpc", "http")] {
            self.apart(one, other);
        }
    }

    fn idempotency(&mut self) {
        let is_shared = self.text("idempotency.store") == Some("nats_kv");
        if is_shared && Backend::from_resolved(self.resolved) == Backend::Embedded {
            let what = "needs NATS, and the backend is the embedded broker";
            self.refuse("idempotency.store", what, "memory, or nats.urls (NATS_URL) that names a server");
        }
        let is_token =
            |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if self.text("idempotency.bucket").is_some_and(|name| !is_token(name)) {
            self.refuse("idempotency.bucket", "is no name of a bucket", "letters, digits, - and _");
        }
    }

    /// Two listeners may not have one port.
    fn apart(&mut self, one: &str, other: &str) {
        let key = |section: &str, name: &str| format!("{section}.{name}");
        let both = |name: &str| (key(one, name), key(other, name));
        let (enabled, address, port) = (both("enabled"), both("address"), both("port"));
        let ports = self.int(&port.0).zip(self.int(&port.1));
        let addresses = self.text(&address.0).zip(self.text(&address.1));
        if self.is(&enabled.0, true)
            && self.is(&enabled.1, true)
            && ports.is_some_and(|(one, other)| one == other && one != 0)
            && addresses.is_some_and(|(one, other)| one == other)
        {
            // The one that somebody set is the one to mend.
            let (set, taken) = if self.is_set(&port.0) { (port.0, port.1) } else { (port.1, port.0) };
            self.refuse(&set, format!("is that of {taken}, on the same address"), "another port");
        }
    }

    fn routes(&mut self) {
        let routes = self.resolved.routes();
        for route in routes {
            let path = |name: &str| format!("routes.{route}.{name}");
            // A built-in route's own default gives way to a lower limit instead.
            if self.is_set(&path("timeout_ms")) {
                self.in_order(&path("timeout_ms"), "limits.timeout_ms_max");
            }
            self.in_order(&path("payload_bytes_min"), &path("payload_bytes_max"));
            self.in_order(&path("payload_bytes_min"), "limits.payload_bytes_max");
            self.in_order(&path("payload_bytes_max"), "limits.payload_bytes_max");
            self.rate(&path("rate_per_second"), &path("rate_burst"));
            self.in_order(&path("reply_gap_timeout_ms"), &path("replies_timeout_ms"));
            let has_profile = self.text(&path("profile")).is_some_and(|profile| profile != Profile::NAMES[0]);
            if has_profile && self.int(&path("replies_max")).is_some_and(|replies| replies > 1) {
                let what = "has no effect on a route with a profile, which reads one answer";
                self.refuse(&path("replies_max"), what, "1, or the profile raw");
            }
            let empty = |name: &str| self.list(&path(name)).is_some_and(<[Value]>::is_empty);
            if empty("patterns")
                && empty("message_types")
                && super::route_keys::ROUTES.built_in(route).is_none()
            {
                let problem = Problem::new(format!("routes.{route}"), "is for nothing");
                self.problems.push(problem.allowed("patterns or message_types"));
            }
        }
        self.replies();
        self.shared_by_routes("message_types");
        self.shared_by_routes("patterns");
    }

    /// Replies are as private under a prefix of one's own as under `_INBOX`.
    fn replies(&mut self) {
        let Some(prefix) = self.text("nats.inbox_prefix").map(str::to_owned) else { return };
        let below = |text: &str| {
            text.strip_prefix(&*prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        for route in self.resolved.routes() {
            let (subject, patterns) = (format!("routes.{route}.subject"), format!("routes.{route}.patterns"));
            let what = format!("reaches the replies below nats.inbox_prefix, which is {prefix:?}");
            if self.text(&subject).is_some_and(below) {
                self.refuse(&subject, what.clone(), "a subject elsewhere");
            }
            let list = self.list(&patterns).unwrap_or_default();
            if list.iter().any(|pattern| matches!(pattern, Value::Text(text) if below(text))) {
                self.refuse(&patterns, what, "patterns elsewhere");
            }
        }
    }

    /// Two routes that claim the same thing: which of them counts could only be guessed.
    fn shared_by_routes(&mut self, name: &str) {
        let routes = self.resolved.routes();
        for (at, one) in routes.iter().enumerate() {
            for other in &routes[at + 1..] {
                let (path, other_path) = (format!("routes.{one}.{name}"), format!("routes.{other}.{name}"));
                let mine = self.list(&path).unwrap_or_default();
                let theirs = self.list(&other_path).unwrap_or_default();
                for value in mine.iter().filter(|value| theirs.contains(value)) {
                    let operations = self.shared_operations(one, other);
                    if name == "message_types" || operations {
                        let what = format!("holds {value}, which {other_path} holds too");
                        self.problems.push(Problem::new(&path, what).allowed("each in one route"));
                    }
                }
            }
        }
    }

    fn shared_operations(&self, one: &str, other: &str) -> bool {
        let operations = |route: &str| self.list(&format!("routes.{route}.operations")).unwrap_or_default();
        operations(one).iter().any(|operation| operations(other).contains(operation))
    }
}
