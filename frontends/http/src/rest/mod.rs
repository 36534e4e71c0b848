//! Configured REST routes: what an interface of paths and bodies is in subjects and payloads.
//!
//! A route makes a request with a subject of what came, and an answer of what comes back; who may do it and how often
//! is the pipeline's to say, as for every other request. A table is compiled whole from its settings, with every
//! problem found, and never changed: a reload gives the door another one.
//!
//! # Layout
//!
//! `table` finds the route of a request, over `path`; `compile` makes it from [`RouteSettings`]. `template` is text
//! with placeholders, whose `source` is the request, the error or the gateway; `pointer` finds parts of JSON.
//! `exchange` is a request from its head to its answer, with `form` for an error's body and `shape` for events.

pub(crate) mod exchange;
pub(crate) mod form;
pub(crate) mod shape;
pub(crate) mod table;

mod compile;
mod path;
mod pointer;
mod source;
mod template;

use std::fmt;
use std::sync::Arc;

use contract::Operation;

pub use self::table::Table;

/// The methods that a route can have.
pub const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE"];

/// One route, as it is configured. Texts are checked when the [`Table`] is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// Its name, for messages and the `OpenAPI` document.
    pub name: String,
    /// Its method, one of [`METHODS`].
    pub method: String,
    /// The template of its path.
    pub path: String,
    /// What it does, in a sentence; `None` is what its subject says.
    pub summary: Option<String>,
    /// What it does to its subject; `None` is that the gateway itself answers.
    pub operation: Option<Operation>,
    /// The subject or pattern, whole tokens of which may be placeholders.
    pub subject: Option<String>,
    /// The body sent on: `passed`, `empty`, or a template of JSON.
    pub body: String,
    /// Headers sent on, each `Name: template`.
    pub headers: Vec<String>,
    /// Sources that must name the identity's tenant, as far as they are there.
    pub tenant_from: Vec<String>,
    /// Whether one of them must be there.
    pub tenant_required: bool,
    /// What is answered: `whole`, a JSON pointer, or a template of JSON where no responder answers.
    pub answer: String,
    /// The status of a success; `None` is 200, or 202 for a publish.
    pub status: Option<u16>,
    /// The name of the [`FormSettings`] of its errors; `None` is a problem document.
    pub errors: Option<String>,
    /// Of a subscription: pointers of which the first that is there must hold `filter_value`.
    pub filter: Vec<String>,
    /// Of a subscription: the source of the text that is compared.
    pub filter_value: Option<String>,
    /// Of a subscription: the pointer to an event's name; `None` is `message`.
    pub event_name: Option<String>,
    /// Of a subscription: the pointer to an event's data; `None` is the message with its subject and headers.
    pub event_data: Option<String>,
}

/// How errors are told, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormSettings {
    /// Its name, which routes say.
    pub name: String,
    /// The template of the body.
    pub body: String,
    /// Headers beside it, each `status Name: template`.
    pub headers: Vec<String>,
    /// Codes that stand for kinds of errors, each `kind=code`.
    pub codes: Vec<String>,
}

/// What is wrong with a table's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, without the name of its table.
    pub key: &'static str,
    /// The route or form.
    pub of: Of,
    /// What is wrong, to be read after the key.
    pub what: String,
}

/// What a [`Problem`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// The route of this name.
    Route(String),
    /// The form of this name.
    Form(String),
}

/// How the gateway stands, for routes that tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether the backend can be reached.
    pub connected: bool,
    /// Now, as RFC 3339 has it.
    pub time: String,
}

/// Says how the gateway stands.
#[derive(Clone)]
pub struct Stand(pub Arc<dyn Fn() -> Standing + Send + Sync>);

impl fmt::Debug for Stand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Stand")
    }
}
