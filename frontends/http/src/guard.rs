//! Whom the door answers: checked on every request before anything else is looked at.

use axum::body::Body;
use contract::{Error, Kind};
use hyper::header::HeaderValue;
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode};
use wire::site::Site;

use crate::problem::Refused;

/// Refuses pages of other sites and names that are not ours. (A body whose end is in doubt is hyper's to refuse:
/// it takes `Transfer-Encoding` over `Content-Length`, answers once and closes, as RFC 9112, 6.1 allows.)
pub(crate) fn check(site: &Site, request: &Request<Body>) -> Result<(), Refused> {
    let headers = request.headers();
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
