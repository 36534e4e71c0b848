//! The typed settings of REST routes and of the forms of their errors.

use contract::Operation;

use super::resolved::Resolved;

/// `[rest.<name>]`. Templates are texts here: the HTTP door reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Its name.
    pub name: String,
    /// Its method.
    pub method: String,
    /// The template of its path; empty if there is none.
    pub path: String,
    /// What it does, for people.
    pub summary: Option<String>,
    /// What it does to its subject; `None`: the gateway itself answers.
    pub operation: Option<Operation>,
    /// Its subject or pattern.
    pub subject: Option<String>,
    /// What is sent.
    pub body: String,
    /// Headers that are sent.
    pub headers: Vec<String>,
    /// Sources that must name the peer's tenant.
    pub tenant_from: Vec<String>,
    /// Whether one of them must be there.
    pub tenant_required: bool,
    /// What is answered.
    pub answer: String,
    /// The status of a success.
    pub status: Option<u16>,
    /// The form of its errors.
    pub errors: Option<String>,
    /// Pointers to what messages are compared by.
    pub filter: Vec<String>,
    /// What they are compared with.
    pub filter_value: Option<String>,
    /// The pointer to an event's name.
    pub event_name: Option<String>,
    /// The pointer to an event's data.
    pub event_data: Option<String>,
}

/// `[rest_errors.<name>]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestErrors {
    /// Its name.
    pub name: String,
    /// The template of the body; empty if there is none.
    pub body: String,
    /// Headers by status.
    pub headers: Vec<String>,
    /// Codes by kind.
    pub codes: Vec<String>,
}

impl Rest {
    pub(super) fn from_resolved(settings: &Resolved, name: &str) -> Self {
        let path = |key: &str| format!("rest.{name}.{key}");
        let text = |key: &str| settings.text(&path(key)).to_owned();
        let if_set = |key: &str| settings.text_if_set(&path(key)).map(str::to_owned);
        let texts = |key: &str| settings.texts(&path(key));
        Self {
            name: name.to_owned(),
            method: text("method"),
            path: if_set("path").unwrap_or_default(),
            summary: if_set("summary"),
            operation: operation(settings.text(&path("operation"))),
            subject: if_set("subject"),
            body: text("body"),
            headers: texts("headers"),
            tenant_from: texts("tenant_from"),
            tenant_required: settings.bool(&path("tenant_required")),
            answer: text("answer"),
            status: settings.int_if_set(&path("status")),
            errors: if_set("errors"),
            filter: texts("filter"),
            filter_value: if_set("filter_value"),
            event_name: if_set("event_name"),
            event_data: if_set("event_data"),
        }
    }
}

/// `status` is none: nothing is done to a subject.
fn operation(text: &str) -> Option<Operation> {
    Operation::ALL.into_iter().find(|known| known.name() == text)
}

impl RestErrors {
    pub(super) fn from_resolved(settings: &Resolved, name: &str) -> Self {
        let path = |key: &str| format!("rest_errors.{name}.{key}");
        Self {
            name: name.to_owned(),
            body: settings.text_if_set(&path("body")).unwrap_or_default().to_owned(),
            headers: settings.texts(&path("headers")),
            codes: settings.texts(&path("codes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rest_keys::OPERATIONS;
    use super::*;

    #[test]
    fn every_allowed_word_has_its_meaning() {
        let known: Vec<_> = OPERATIONS.iter().map(|text| operation(text).map(Operation::name)).collect();
        assert_eq!(known, [Some("request"), Some("publish"), Some("subscribe"), None]);
    }
}
