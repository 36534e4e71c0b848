//! Subjects and patterns of NATS, as two types: a [`Subject`] is concrete and can be published to, a
//! [`Pattern`] may hold wildcards and can be subscribed to. A wildcard in a publish is thus impossible
//! instead of checked.
//!
//! Rules (NATS documentation, "Subject-Based Messaging"): tokens separated by `.`, none empty; no white
//! space, no control characters; in a pattern `*` stands for one token and a final `>` for one or more.
//! Stricter than the server in one point: `*` and `>` inside a longer token (`a*b`) are refused, because
//! the server takes them literally and people do not mean that.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;

/// The most bytes a subject or a pattern may have. The server's control line holds 4,096 bytes, which the
/// subject shares with a reply subject and sizes.
pub const SUBJECT_BYTES_MAX: usize = 1024;

/// A concrete subject, such as `beamline.router.v1.decide`. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(ByteString);

/// A subject that may hold wildcards, such as `beamline.*.v1.>`. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(ByteString);

/// Why a text is not a subject or not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Nothing at all.
    #[error("a subject must not be empty")]
    Empty,
    /// More than [`SUBJECT_BYTES_MAX`] bytes.
    #[error("a subject has at most 1024 bytes")]
    TooLong,
    /// Two dots in a row, or a dot at either end.
    #[error("a subject must not have an empty token: look for '..' or a '.' at an end")]
    EmptyToken,
    /// White space or a control character, or bytes that are not UTF-8.
    #[error("a subject must be UTF-8 without white space and control characters")]
    Character,
    /// `*` or `>` where a concrete subject is needed, within a longer token, or `>` before the end.
    #[error(
        "a wildcard stands alone in its token, '>' only at the end, and neither where a concrete subject is needed"
    )]
    Wildcard,
}

impl Subject {
    /// Takes a text as a subject.
    pub fn parse(text: impl TryInto<ByteString>) -> Result<Self, SubjectError> {
        let text = text.try_into().map_err(|_| SubjectError::Character)?;
        check(&text, false)?;
        Ok(Self(text))
    }

    /// Takes a text of the program itself as a subject.
    ///
    /// # Panics
    /// If it is none: a mistake in the program, found by the first test that gets there.
    pub fn from_static(text: &'static str) -> Self {
        check(text, false).expect("a subject of the program itself is valid");
        Self(ByteString::from_static(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.as_bytes().clone()
    }

    /// Whether no peer may name it: what belongs to the server and to reply inboxes, that is a first token
    /// beginning with `$` (`$SYS`, `$JS`, `$KV`, …) or with `_` (`_INBOX`, `_R_`, …).
    pub fn is_reserved(&self) -> bool {
        reserved(self.as_str())
    }
}

impl Pattern {
    /// Takes a text as a pattern.
    pub fn parse(text: impl TryInto<ByteString>) -> Result<Self, SubjectError> {
        let text = text.try_into().map_err(|_| SubjectError::Character)?;
        check(&text, true)?;
        Ok(Self(text))
    }

    /// Takes a text of the program itself as a pattern.
    ///
    /// # Panics
    /// If it is none: a mistake in the program, found by the first test that gets there.
    pub fn from_static(text: &'static str) -> Self {
        check(text, true).expect("a pattern of the program itself is valid");
        Self(ByteString::from_static(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.as_bytes().clone()
    }

    /// Whether it holds no wildcard, and so matches one subject.
    pub fn is_literal(&self) -> bool {
        !self.as_str().split('.').any(|token| token == "*" || token == ">")
    }

    /// Whether `subject` is one of those it stands for.
    pub fn matches(&self, subject: &Subject) -> bool {
        covers(self.as_str(), subject.as_str())
    }

    /// Whether every subject that `other` stands for is one that this stands for.
    pub fn covers(&self, other: &Self) -> bool {
        covers(self.as_str(), other.as_str())
    }

    /// Whether it names what no peer may name; see [`Subject::is_reserved`]. A wildcard in the first token
    /// is not reserved, but deliveries on reserved subjects must be kept from it.
    pub fn is_reserved(&self) -> bool {
        reserved(self.as_str())
    }

    /// How exact it is, to order patterns that match the same subject: a literal token counts more than
    /// `*`, `*` more than `>`, earlier tokens more than later ones. Compare with `Ord`: greater is more
    /// exact.
    pub fn precision(&self) -> Vec<u8> {
        let weight = |token| match token {
            ">" => 0,
            "*" => 1,
            _ => 2,
        };
        self.as_str().split('.').map(weight).collect()
    }
}

impl From<Subject> for Pattern {
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}

fn reserved(text: &str) -> bool {
    text.starts_with(['$', '_'])
}

fn check(text: &str, wildcards: bool) -> Result<(), SubjectError> {
    if text.is_empty() {
        return Err(SubjectError::Empty);
    }
    if text.len() > SUBJECT_BYTES_MAX {
        return Err(SubjectError::TooLong);
    }
    if text.chars().any(|char| char.is_whitespace() || char.is_control()) {
        return Err(SubjectError::Character);
    }
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        match token {
            "" => return Err(SubjectError::EmptyToken),
            "*" if wildcards => {}
            ">" if wildcards && tokens.peek().is_none() => {}
            _ if token.contains(['*', '>']) => return Err(SubjectError::Wildcard),
            _ => {}
        }
    }
    Ok(())
}

/// Whether `pattern` stands for all that `other` (a pattern, or a subject) stands for.
fn covers(pattern: &str, other: &str) -> bool {
    let mut others = other.split('.');
    for token in pattern.split('.') {
        let Some(theirs) = others.next() else { return false };
        match token {
            ">" => return true,
            "*" if theirs != ">" => {}
            _ if token != theirs || token == "*" => return false,
            _ => {}
        }
    }
    others.next().is_none()
}

macro_rules! text_of {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({:?})", stringify!($name), self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = SubjectError;

            fn from_str(text: &str) -> Result<Self, SubjectError> {
                Self::parse(text)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }
    };
}
text_of!(Subject);
text_of!(Pattern);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn subjects_are_concrete() {
        for good in ["a", "a.b.c", "beamline.router.v1.decide", "ä.ö", "$SYS.x", "a-b_c.d:e/f"] {
            assert!(Subject::parse(good).is_ok(), "{good}");
        }
        let bad = [
            ("", SubjectError::Empty),
            (".a", SubjectError::EmptyToken),
            ("a.", SubjectError::EmptyToken),
            ("a..b", SubjectError::EmptyToken),
            ("a b", SubjectError::Character),
            ("a\r\nPUB x 1", SubjectError::Character),
            ("a\0", SubjectError::Character),
            ("a\u{a0}b", SubjectError::Character),
            ("a.*", SubjectError::Wildcard),
            (">", SubjectError::Wildcard),
            ("a.b*", SubjectError::Wildcard),
        ];
        for (text, why) in bad {
            assert_eq!(Subject::parse(text), Err(why), "{text:?}");
        }
        assert_eq!(Subject::parse("x".repeat(4096)), Err(SubjectError::TooLong));
        assert_eq!(Subject::parse(&b"a\xff"[..]), Err(SubjectError::Character));
    }

    #[test]
    fn patterns_hold_whole_wildcards() {
        for good in ["*", ">", "a.*.c", "a.>", "*.*.>"] {
            assert!(Pattern::parse(good).is_ok(), "{good}");
        }
        for bad in ["a.>.b", "a*", "*a", ">>", "a.**"] {
            assert_eq!(Pattern::parse(bad), Err(SubjectError::Wildcard), "{bad}");
        }
    }

    #[test]
    fn matching() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.b", "a.b", true),
        ];
        for (pattern, subject, expected) in cases {
            let (pattern, subject) = (Pattern::from_static(pattern), Subject::from_static(subject));
            assert_eq!(pattern.matches(&subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn covering() {
        let cases = [
            ("a.>", "a.*", true),
            ("a.*", "a.>", false),
            ("a.*", "a.*", true),
            (">", ">", true),
            ("*", ">", false),
            ("a.b", "a.*", false),
            ("*.>", ">", false),
            (">", "*.>", true),
        ];
        for (wide, narrow, expected) in cases {
            let (wide, narrow) = (Pattern::from_static(wide), Pattern::from_static(narrow));
            assert_eq!(wide.covers(&narrow), expected, "{wide} {narrow}");
        }
    }

    #[test]
    fn exactness_orders_patterns() {
        let precision = |text| Pattern::from_static(text).precision();
        assert!(precision("a.b") > precision("a.*"));
        assert!(precision("a.*") > precision("a.>"));
        assert!(precision("a.>") > precision("*.b"));
        assert!(precision("*.b") > precision(">"));
    }

    #[test]
    fn the_server_and_inboxes_are_reserved() {
        for text in ["$SYS.ACCOUNT.x", "$JS.API.INFO", "_INBOX.abc", "_R_.x"] {
            assert!(Subject::from_static(text).is_reserved(), "{text}");
            assert!(Pattern::from_static(text).is_reserved(), "{text}");
        }
        assert!(!Subject::from_static("a.$SYS").is_reserved());
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in ".{0,64}") {
            if let Ok(subject) = Subject::parse(text.as_str()) {
                prop_assert!(Pattern::parse(text.as_str()).unwrap().matches(&subject));
            }
        }

        #[test]
        fn covering_agrees_with_matching(
            wide in "[ab*](\\.[ab*]){0,3}(\\.>)?", narrow in "[ab*](\\.[ab*]){0,3}(\\.>)?",
            subject in "[ab](\\.[ab]){0,4}",
        ) {
            let (wide, narrow) = (Pattern::parse(wide).unwrap(), Pattern::parse(narrow).unwrap());
            let subject = Subject::parse(subject).unwrap();
            if wide.covers(&narrow) && narrow.matches(&subject) {
                prop_assert!(wide.matches(&subject));
            }
        }
    }
}
