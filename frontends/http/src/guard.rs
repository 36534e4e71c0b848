//! Whom the door answers: checked on every request before anything else is looked at.

use axum::body::Body;
use contract::{Error, Kind};
use hyper::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode};
use wire::site::Site;

use crate::problem::Refused;

/// Refuses pages of other sites, names that are not ours, and a body whose end is in doubt.
pub(crate) fn check(site: &Site, request: &Request<Body>) -> Result<(), Refused> {
    let headers = request.headers();
    // Hyper takes the latter and closes, as RFC 9112, 6.1 allows; but whoever sends both is after a proxy that
    // takes the former, and gets no answer from us.
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        let text = "Content-Length and Transfer-Encoding exclude each other";
        return Err(Refused::closing(Error::new(Kind::Malformed, text)));
    }
    let authority = request.uri().authority().map(Authority::as_str);
    let checked = site.check(authority, |name| headers.get_all(name).iter().map(HeaderValue::as_bytes));
    checked.map_err(|refusal| {
        let (kind, status) = if refusal.is_malformed() {
            (Kind::Malformed, StatusCode::BAD_REQUEST)
        } else {
            (Kind::Denied, StatusCode::FORBIDDEN)
        };
        Refused::closing(Error::new(kind, refusal.to_string())).with_status(status)
    })
}
