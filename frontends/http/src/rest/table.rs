//! The compiled table: from method and path to a route, by a tree of segments.
//!
//! A literal beats a parameter, from the left; where that leads to nothing the parameter is tried. A walk sees a node
//! at most once, so a request costs at most as many steps as the table has nodes, whatever its path.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use contract::Operation;
use hyper::{Method, StatusCode};

use super::form::Form;
use super::path::{self, Malformed, PathTemplate, Segment};
use super::pointer::Pointer;
use super::shape::Shape;
use super::source::Source;
use super::template::Template;

/// All routes of a door, and what the door says of itself with them.
#[derive(Debug)]
pub struct Table {
    pub(super) root: Node,
    /// In the order of the settings.
    pub(super) routes: Vec<Arc<Route>>,
    /// The tenant of peers that have none of their own.
    pub(super) default_tenant: Box<str>,
    pub(crate) index: Bytes,
    pub(crate) document: Bytes,
}

/// A route that is in force.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: Box<str>,
    pub(crate) method: Method,
    /// The path as it is configured, which errors call the endpoint.
    pub(crate) endpoint: Box<str>,
    pub(crate) summary: Box<str>,
    pub(super) path: PathTemplate,
    pub(super) operation: Option<Operation>,
    pub(super) subject: Vec<Token>,
    pub(super) body: BodyRule,
    pub(super) headers: Vec<(Box<str>, Template)>,
    pub(super) tenant_from: Vec<Source>,
    pub(super) tenant_required: bool,
    pub(super) answer: AnswerRule,
    pub(crate) status: StatusCode,
    pub(crate) form: Option<Arc<Form>>,
    pub(crate) shape: Option<Arc<Shape>>,
    pub(super) filter_value: Option<Source>,
}

/// A token of a subject or pattern.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// As it is, wildcards too.
    Literal(Box<str>),
    /// A text of the request.
    From(Source),
}

/// What is sent.
#[derive(Debug)]
pub(super) enum BodyRule {
    /// The request's body.
    Passed,
    /// Nothing.
    Empty,
    /// A body of our own.
    Built(Template),
}

/// What is answered.
#[derive(Debug)]
pub(super) enum AnswerRule {
    /// What the responder says.
    Whole,
    /// A part of it.
    Part(Pointer),
    /// A body of our own.
    Built(Template),
}

/// A node: what a path may go on with, and the routes that end here.
#[derive(Debug, Default)]
pub(super) struct Node {
    literals: HashMap<Box<str>, Node>,
    parameter: Option<Box<Node>>,
    routes: Vec<Arc<Route>>,
}

impl Node {
    pub(super) fn add(&mut self, route: Arc<Route>) {
        let mut node = self;
        for segment in route.path.segments() {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Segment::Parameter(_) => node.parameter.get_or_insert_default(),
            };
        }
        node.routes.push(route);
    }

    /// Walks on; true ends the walk.
    fn walk(&self, path: &[std::borrow::Cow<'_, str>], visit: &mut impl FnMut(&Arc<Route>) -> bool) -> bool {
        let Some((first, rest)) = path.split_first() else { return self.routes.iter().any(visit) };
        self.literals.get(&**first).is_some_and(|node| node.walk(rest, visit))
            || !first.is_empty() && self.parameter.as_ref().is_some_and(|node| node.walk(rest, visit))
    }
}

/// What a method and a path lead to.
#[derive(Debug)]
pub(crate) enum Found {
    /// A route, with the parameters of the path.
    Route(Arc<Route>, Vec<String>),
    /// The path is there and has other methods; the first of its routes says how errors look.
    OtherMethods(Vec<Method>, Arc<Route>),
    /// Nothing.
    Nothing,
}

impl Table {
    /// A table without routes.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Finds the route. A `HEAD` is answered by a `GET`, as the protocol demands (RFC 9110, 9.3.2).
    pub(crate) fn find(&self, method: &Method, path: &str) -> Result<Found, Malformed> {
        if self.is_empty() {
            return Ok(Found::Nothing);
        }
        let Some(segments) = path::segments(path)? else { return Ok(Found::Nothing) };
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let (mut found, mut others) = (None, Vec::new());
        self.root.walk(&segments, &mut |route: &Arc<Route>| {
            if route.method == *method {
                found = Some(Arc::clone(route));
            } else {
                others.push(Arc::clone(route));
            }
            found.is_some()
        });
        if let Some(route) = found {
            let named = route.path.segments().iter().zip(segments);
            let parameters = named.filter(|(segment, _)| matches!(segment, Segment::Parameter(_)));
            let values = parameters.map(|(_, value)| value.into_owned()).collect();
            return Ok(Found::Route(route, values));
        }
        match others.first() {
            Some(first) => {
                let mut methods: Vec<_> = others.iter().map(|route| route.method.clone()).collect();
                if methods.contains(&Method::GET) {
                    methods.push(Method::HEAD);
                }
                methods.sort_by(|one, other| one.as_str().cmp(other.as_str()));
                methods.dedup();
                Ok(Found::OtherMethods(methods, Arc::clone(first)))
            }
            None => Ok(Found::Nothing),
        }
    }

    /// The tenant of who asks.
    pub(super) fn tenant_of<'a>(&'a self, identity: &'a contract::Identity) -> &'a str {
        identity.tenant.as_deref().filter(|tenant| !tenant.is_empty()).unwrap_or(&self.default_tenant)
    }
}

impl Route {
    /// The names of the path's parameters.
    pub(crate) fn parameters(&self) -> Vec<&str> {
        self.path.parameters().collect()
    }

    /// All that is read of the request's query and headers, for its description: names, and whether headers.
    pub(crate) fn asks(&self) -> (Vec<&str>, Vec<&str>) {
        let of_subject = self.subject.iter().filter_map(|token| match token {
            Token::From(source) => Some(source),
            Token::Literal(_) => None,
        });
        let of_body = match &self.body {
            BodyRule::Built(template) => Some(template),
            _ => None,
        };
        let templates = of_body.into_iter().chain(self.headers.iter().map(|(_, template)| template));
        let sources = templates.flat_map(Template::sources).chain(of_subject);
        let sources = sources.chain(&self.tenant_from).chain(&self.filter_value);
        let (mut query, mut headers) = (Vec::new(), Vec::new());
        for source in sources {
            match source {
                Source::Query(name) if !query.contains(&&**name) => query.push(&**name),
                Source::Header(name) if !headers.contains(&name.as_str()) => headers.push(name.as_str()),
                _ => {}
            }
        }
        (query, headers)
    }

    /// Whether a request has a body that is sent on.
    pub(crate) fn takes_body(&self) -> bool {
        matches!(self.body, BodyRule::Passed)
            && matches!(self.operation, Some(Operation::Request | Operation::Publish))
            && self.method != Method::GET
    }

    /// Whether it is answered with events.
    pub(crate) fn is_stream(&self) -> bool {
        self.operation == Some(Operation::Subscribe)
    }
}
