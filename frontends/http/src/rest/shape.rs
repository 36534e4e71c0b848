//! The shape of events: of which messages there are any, what they are called and what they hold.

use std::borrow::Cow;

use contract::Delivery;
use serde_json::value::RawValue;

use super::pointer::Pointer;

/// What the door tells by itself: that messages were lost, that all is told, that something went wrong.
const OWN_NAMES: [&str; 3] = ["gap", "end", "error"];

/// How a subscription's messages become events.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(super) filter: Vec<Pointer>,
    pub(super) name: Option<Pointer>,
    pub(super) data: Option<Pointer>,
}

impl Shape {
    /// Whether a message passes: the first part of those named that is there must be this text. A message that has
    /// none of them, or is no JSON, does not.
    pub(crate) fn passes(&self, delivery: &Delivery, value: Option<&str>) -> bool {
        let Some(value) = value else { return true };
        let part = self.filter.iter().find_map(|pointer| pointer.find(&delivery.payload));
        part.and_then(text).is_some_and(|text| text == value)
    }

    /// The event's name; `message` where the part that names it is not there, is not one line of text, or is a name
    /// by which the door itself tells something.
    pub(crate) fn name<'a>(&self, delivery: &'a Delivery) -> Cow<'a, str> {
        let named = self.name.as_ref().and_then(|pointer| pointer.find(&delivery.payload)).and_then(text);
        let fits = |name: &Cow<'_, str>| {
            !name.is_empty() && !name.contains(['\r', '\n', '\0']) && !OWN_NAMES.contains(&&**name)
        };
        named.filter(fits).unwrap_or(Cow::Borrowed("message"))
    }

    /// The event's data as JSON, if it has a part for it; `null` where that is not there.
    pub(crate) fn data<'a>(&self, delivery: &'a Delivery) -> Option<&'a str> {
        let pointer = self.data.as_ref()?;
        Some(pointer.find(&delivery.payload).map_or("null", RawValue::get))
    }
}

fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    raw.get().starts_with('"').then(|| serde_json::from_str(raw.get()).ok().map(Cow::Owned)).flatten()
}
