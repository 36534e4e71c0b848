//! Permission violations as the server words them, so that they reach the request or subscription that
//! caused them.
//!
//! The server (`server/client.go` of nats-server, since 2.0) says `Permissions Violation for Publish to "x"`
//! and `Permissions Violation for Subscription to "x"`, the latter with `using queue "q"` behind it. It names
//! no message, so the subject is all there is to go by.

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation<'a> {
    /// Publishing to this subject.
    Publish(&'a str),
    /// Subscribing to this pattern.
    Subscribe(&'a str),
}

impl<'a> Violation<'a> {
    /// Reads the text of the server's error; `None` when it is another error.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let rest = strip(text.trim().trim_matches('\''), "permissions violation for ")?;
        if let Some(rest) = strip(rest, "publish to ") {
            return quoted(rest).map(Self::Publish);
        }
        quoted(strip(rest, "subscription to ")?).map(Self::Subscribe)
    }
}

/// Strips a prefix in ASCII, whatever its case.
fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let start = text.get(..prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

fn quoted(text: &str) -> Option<&str> {
    let (subject, _) = text.strip_prefix('"')?.split_once('"')?;
    (!subject.is_empty()).then_some(subject)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_the_server_says() {
        let cases = [
            ("Permissions Violation for Publish to \"a.b\"", Some(Violation::Publish("a.b"))),
            ("'Permissions Violation for Publish to \"a.b\"'", Some(Violation::Publish("a.b"))),
            ("permissions violation for publish to \"A.b\"", Some(Violation::Publish("A.b"))),
            ("Permissions Violation for Subscription to \"a.>\"", Some(Violation::Subscribe("a.>"))),
            (
                "Permissions Violation for Subscription to \"a.*\" using queue \"q\"",
                Some(Violation::Subscribe("a.*")),
            ),
            ("Permissions Violation for Publish to a.b", None),
            ("Permissions Violation for Publish to \"\"", None),
            ("Permissions Violation for Publish to \"a.b", None),
            ("Permissions Violation for Publish with Reply of \"r\"", None),
            ("Stale Connection", None),
            ("", None),
        ];
        for (text, violation) in cases {
            assert_eq!(Violation::parse(text), violation, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not(text in "\\PC{0,80}") {
            let _ = Violation::parse(&text);
        }

        #[test]
        fn every_subject_is_found(subject in "[a-zA-Z0-9.*>_-]{1,60}") {
            let text = format!("Permissions Violation for Subscription to \"{subject}\"");
            prop_assert_eq!(Violation::parse(&text), Some(Violation::Subscribe(&subject)));
        }
    }
}
