//! Which texts are NATS subjects and patterns, as far as the configuration has to know.
//!
//! A wrong pattern in a route is reported with the other problems of the file, with its line, instead of by
//! the route table after start.

/// The longest subject that a route may name, in bytes. The server's control line holds 4096 bytes, which the
/// subject shares with a reply subject and the sizes.
const SUBJECT_BYTES_MAX: usize = 1024;

/// Checks a concrete subject: dot-separated tokens, no wildcards, not reserved.
pub(super) fn check_subject(text: &str) -> Result<(), String> {
    check_tokens(text)?;
    if text.split('.').any(|token| token == "*" || token == ">") {
        return Err("holds a wildcard, and a subject must name one thing".into());
    }
    check_reserved(text)
}

/// Checks a pattern: a subject in which `*` stands for one token and a last `>` for all that follow.
pub(super) fn check_pattern(text: &str) -> Result<(), String> {
    check_tokens(text)?;
    let tokens = text.split('.').count();
    if text.split('.').enumerate().any(|(at, token)| token == ">" && at + 1 != tokens) {
        return Err("has a > that is not its last token".into());
    }
    check_reserved(text)
}

/// Checks the prefix of the reply inboxes: tokens without wildcards. It is the one reserved subject.
pub(super) fn check_prefix(text: &str) -> Result<(), String> {
    check_tokens(text)?;
    if text.split('.').any(|token| token == "*" || token == ">") {
        return Err("holds a wildcard".into());
    }
    if text.starts_with('$') { Err("starts with $, which belongs to the server".into()) } else { Ok(()) }
}

fn check_tokens(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    if text.len() > SUBJECT_BYTES_MAX {
        return Err(format!("is longer than {SUBJECT_BYTES_MAX} bytes"));
    }
    for token in text.split('.') {
        if token.is_empty() {
            return Err("has an empty token (a dot at an end, or two in a row)".into());
        }
        if token.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("holds white space or a control character".into());
        }
        if token.len() > 1 && token.contains(['*', '>']) {
            return Err("has a wildcard that is only part of a token".into());
        }
    }
    Ok(())
}

/// `$SYS`, `$JS` and the like belong to the server, `_INBOX` and the like to the replies: no peer reaches
/// them.
fn check_reserved(text: &str) -> Result<(), String> {
    let first = text.split('.').next().unwrap_or(text);
    if first.starts_with(['$', '_']) {
        return Err(format!("is reserved: nothing below {first} can be reached through a route"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_and_patterns() {
        for good in ["a", "a.b.c", "beamline.router.v1.decide"] {
            assert_eq!(check_subject(good), Ok(()), "{good}");
            assert_eq!(check_pattern(good), Ok(()), "{good}");
        }
        for pattern in [">", "*", "a.*", "a.*.b", "a.>"] {
            assert_eq!(check_pattern(pattern), Ok(()), "{pattern}");
            assert!(check_subject(pattern).is_err(), "{pattern}");
        }
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a\n",
            "a*",
            "a.>.b",
            ">.a",
            "$SYS.>",
            "$JS.API.x",
            "_INBOX.>",
        ] {
            assert!(check_pattern(bad).is_err(), "{bad}");
            assert!(check_subject(bad).is_err(), "{bad}");
        }
        assert!(check_subject(&"a".repeat(1025)).is_err());
        assert!(
            check_prefix("_INBOX").is_ok() && check_prefix("$SYS").is_err() && check_prefix("a.>").is_err()
        );
    }
}
