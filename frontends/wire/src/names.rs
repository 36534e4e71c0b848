//! Which headers pass between HTTP and messages, and under what names.
//!
//! A list of what passes, never of what does not: a header that nobody thought of stays where it is. What
//! belongs to a connection or to a door itself never passes, whatever the list says; each door says what that
//! is. Names in messages are compared with their case by many clients of NATS, while HTTP has none, so a name
//! is written in one form: `X-Request-Id`.

use contract::Headers;

/// The one header of the gateway's own that is shown: that it is the demo that answers.
const DEMO: &str = "ipc-gateway-demo";

/// What names a request that may be done once only (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Which names pass in one direction.
#[derive(Clone, Debug)]
pub struct HeaderNames {
    any: bool,
    exact: Vec<String>,
    prefixes: Vec<String>,
    never: &'static [&'static [&'static str]],
    never_prefixes: &'static [&'static str],
}

impl HeaderNames {
    /// Those on the list: names, beginnings such as `x-*`, or `*`, whatever their case. Names in `never`, names
    /// that begin as one of `never_prefixes` does and reserved ones never pass.
    pub fn new(
        list: &[String],
        never: &'static [&'static [&'static str]],
        never_prefixes: &'static [&'static str],
    ) -> Self {
        let lower = list.iter().map(|name| name.to_ascii_lowercase());
        let (prefixes, exact): (Vec<_>, Vec<_>) = lower.partition(|name| name.ends_with('*'));
        let prefixes: Vec<_> = prefixes.iter().map(|name| name.trim_end_matches('*').to_owned()).collect();
        Self { any: prefixes.iter().any(String::is_empty), exact, prefixes, never, never_prefixes }
    }

    /// And what the gateway's own rules read, whatever the list says: a key that a list keeps out would be a request
    /// done twice, in silence.
    #[must_use]
    pub fn with_those_of_rules(mut self) -> Self {
        self.exact.push(IDEMPOTENCY_KEY.to_owned());
        self
    }

    /// Whether a client's header of this name, in lower case, is handed on.
    pub fn takes(&self, name: &str) -> bool {
        let never = self.never.iter().any(|list| list.contains(&name))
            || self.never_prefixes.iter().any(|prefix| name.starts_with(prefix))
            || Headers::is_reserved(name);
        let listed = || {
            self.any
                || self.exact.iter().any(|known| known == name)
                || self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
        };
        !never && listed()
    }

    /// Whether a responder's header of this name, in lower case, is given back.
    pub fn gives(&self, name: &str) -> bool {
        name == DEMO || self.takes(name)
    }
}

/// The form in which messages carry a name: each word with a capital.
pub fn written(name: &str) -> String {
    let mut start = true;
    let each = |letter: char| {
        let written = if start { letter.to_ascii_uppercase() } else { letter };
        start = letter == '-';
        written
    };
    name.chars().map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_passes_and_some_never_do() {
        let list = ["X-*", "etag", "host", "ipc-gateway-tenant"].map(str::to_owned);
        let names = HeaderNames::new(&list, &[&["host"]], &["x-internal-"]);
        assert!(names.takes("x-request-id") && names.takes("etag"));
        assert!(
            !names.takes("idempotency-key") && names.clone().with_those_of_rules().takes("idempotency-key")
        );
        for never in
            ["host", "x-internal-a", "ipc-gateway-tenant", "other", "nats-msg-id", "ipc-gateway-demo"]
        {
            assert!(!names.takes(never), "{never}");
        }
        assert!(names.gives("ipc-gateway-demo"));
        assert_eq!(written("x-request-id"), "X-Request-Id");
    }
}
