//! Headers between the gateway's list and the map of the client library.

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use contract::{Headers, Request};

use crate::backend::incoming;
use crate::backend::outgoing::{self, Name, RequestId};

/// The headers that go out with a request under the name `id`.
pub(super) fn outgoing(request: &Request, id: &RequestId) -> HeaderMap {
    let mut map = HeaderMap::new();
    outgoing::visit(request, id, |name, value| {
        // Names and values were checked when they were made; the library is only stricter about what cannot occur.
        let Ok(value) = value.parse::<HeaderValue>() else { return };
        match name {
            // There once, and no peer's is called so: nothing of that name has to be looked for.
            Name::Own(name) => map.insert(HeaderName::from_static(name), value),
            Name::Peer(name) => {
                if let Ok(name) = name.parse::<HeaderName>() {
                    map.append(name, value);
                }
            }
        }
    });
    map
}

/// The headers that came with a message. The library's map keeps the order of values under one name only.
pub(super) fn incoming(map: Option<HeaderMap>) -> Headers {
    let Some(map) = map else { return Headers::new() };
    let entries = map.iter().flat_map(|(name, values)| {
        values.iter().map(move |value| (AsRef::<str>::as_ref(name), value.as_str()))
    });
    incoming::headers(entries)
}
