//! What names a request that may be done once only: the key that its peer chose, and what was asked under it.
//!
//! Both are digests from here on, so that a key of any length costs the same, and no store ever holds what a peer
//! wrote. The tenant is part of the key: two tenants that choose the same one do not meet.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use contract::{Error, Kind, Request};

use crate::route::Call;

/// The header that names it (draft-ietf-httpapi-idempotency-key-header), by every door that has headers.
pub const HEADER: &str = "Idempotency-Key";
/// The longest key in bytes: longer than any that the services behind take, since only its digest is kept.
pub const KEY_BYTES_MAX: usize = 1024;

/// A SHA-256 (FIPS 180-4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Over parts that are told apart by their lengths.
    fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Self(context.finish().as_ref().try_into().expect("a SHA-256 has 32 bytes"))
    }

    /// As 64 hex digits.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
        self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Digest({})", self.hex())
    }
}

/// The key of a call within its tenant; `None` if it has none. Fails with `invalid` when it has one that cannot be
/// read: guessing what was meant could do it twice.
pub(super) fn of(call: &Call, default_tenant: &str) -> Result<Option<Digest>, Error> {
    let request = &call.request;
    let mut named = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(HEADER));
    let key = match (named.next(), named.next()) {
        (Some(_), Some(_)) => return Err(invalid("Idempotency-Key stands more than once")),
        (Some((_, value)), None) => Some(Cow::Borrowed(unquoted(value))),
        (None, _) => call.route.settings.profile.idempotency_key(request)?,
    };
    let Some(key) = key else { return Ok(None) };
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(invalid("an idempotency key has 1 to 1024 bytes"));
    }
    let own = request.origin.identity.tenant.as_deref().filter(|tenant| !tenant.is_empty());
    Ok(Some(Digest::of(&[own.unwrap_or(default_tenant).as_bytes(), key.as_bytes()])))
}

/// The draft's value is a string of structured fields (RFC 8941, 3.3.3), in quotes; most clients leave them out.
/// Either names the same key.
fn unquoted(value: &str) -> &str {
    let value = value.trim();
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// What is asked: operation, subject and payload, byte for byte.
pub(super) fn fingerprint(request: &Request) -> Digest {
    let target = &request.target;
    Digest::of(&[target.operation().name().as_bytes(), target.as_str().as_bytes(), &request.payload])
}

fn invalid(text: &'static str) -> Error {
    Error::new(Kind::Invalid, text)
}

#[cfg(test)]
mod tests {
    use contract::{Subject, Target};

    use super::*;
    use crate::testing;

    fn call(values: &[&'static str]) -> Call {
        let mut call = testing::call(Target::Request(Subject::from_static("a")));
        for value in values {
            call.request.headers.append("idempotency-KEY", *value).unwrap();
        }
        call
    }

    fn key(values: &[&'static str]) -> Result<Option<Digest>, Kind> {
        of(&call(values), "t").map_err(|error| error.kind())
    }

    #[test]
    fn quotes_make_no_difference() {
        assert_eq!(key(&[r#""8e03""#]), key(&["8e03"]));
        assert!(key(&["8e03"]).unwrap().is_some());
        assert_ne!(key(&["8e03"]), key(&["8e04"]));
        assert_eq!(key(&[]), Ok(None));
    }

    #[test]
    fn what_cannot_be_one_key_is_refused() {
        let long: &'static str = std::str::from_utf8(&[b'x'; KEY_BYTES_MAX + 1]).unwrap();
        for wrong in [&["a", "a"][..], &[""], &["\"\""], &[long]] {
            assert_eq!(key(wrong), Err(Kind::Invalid), "{wrong:?}");
        }
        assert!(key(&[&long[1..]]).unwrap().is_some());
    }

    #[test]
    fn tenants_do_not_meet() {
        let call = call(&["k"]);
        let of = |tenant| of(&call, tenant).unwrap();
        assert_ne!(of("a"), of("b"));
        // Not by moving a letter either.
        assert_ne!(Digest::of(&[b"ab", b"c"]), Digest::of(&[b"a", b"bc"]));
    }

    #[test]
    fn a_digest_is_that_of_the_standard() {
        // NIST's example for "abc", behind the length of the part.
        let mut context = Context::new(&SHA256);
        context.update(b"abc");
        let digest = Digest(context.finish().as_ref().try_into().unwrap());
        assert_eq!(digest.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn the_subject_the_operation_and_each_byte_count() {
        let request = |target, payload: &'static str| {
            let mut request = testing::request(target);
            request.payload = payload.into();
            fingerprint(&request)
        };
        let ask = |subject| Target::Request(Subject::from_static(subject));
        let one = request(ask("a"), "{}");
        assert_eq!(one, request(ask("a"), "{}"));
        for other in [
            request(ask("b"), "{}"),
            request(ask("a"), "{} "),
            request(Target::Publish(Subject::from_static("a")), "{}"),
        ] {
            assert_ne!(one, other);
        }
    }
}
