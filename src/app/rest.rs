//! The configured REST routes: from the configuration to the HTTP door's table.
//!
//! The door reads the templates, so what is wrong with them is known only here; it is told like any other problem of
//! the configuration, with its key and its place.

use http_door::rest::{FormSettings, Of, RouteSettings, Table};
use http_door::{Entry, Mount as _};

use super::mount::WebSockets;
use crate::config::{Config, Loaded, Problem, Problems, Resolved, Rest, RestErrors};

/// Whether the routes that a configuration has can be compiled.
pub(crate) fn check(loaded: &Loaded) -> Result<(), Problems> {
    table(&loaded.config, Some(&loaded.resolved)).map(drop)
}

/// The table that a configuration asks for, or all that is wrong with it, each with its place if `resolved` knows it.
pub(super) fn table(config: &Config, resolved: Option<&Resolved>) -> Result<Table, Problems> {
    let mounted: &[Entry] = if config.websocket.enabled { WebSockets::ENTRIES } else { &[] };
    let routes: Vec<_> = config.rest.iter().map(route).collect();
    let forms: Vec<_> = config.rest_errors.iter().map(form).collect();
    Table::new(&routes, &forms, &config.default_tenant, mounted)
        .map_err(|problems| Problems(problems.into_iter().map(|problem| told(problem, resolved)).collect()))
}

fn told(problem: http_door::rest::Problem, resolved: Option<&Resolved>) -> Problem {
    let key = match &problem.of {
        Of::Route(name) => format!("rest.{name}.{}", problem.key),
        Of::Form(name) => format!("rest_errors.{name}.{}", problem.key),
    };
    let setting = resolved.and_then(|resolved| resolved.get(&key)).filter(|setting| setting.is_set());
    Problem {
        source: setting.map(|setting| setting.source.clone()),
        value: setting.and_then(|setting| setting.value()).map(ToString::to_string),
        key,
        what: problem.what,
        allowed: None,
    }
}

fn route(settings: &Rest) -> RouteSettings {
    let settings = settings.clone();
    RouteSettings {
        name: settings.name,
        method: settings.method,
        path: settings.path,
        summary: settings.summary,
        operation: settings.operation,
        subject: settings.subject,
        body: settings.body,
        headers: settings.headers,
        tenant_from: settings.tenant_from,
        tenant_required: settings.tenant_required,
        answer: settings.answer,
        status: settings.status,
        errors: settings.errors,
        filter: settings.filter,
        filter_value: settings.filter_value,
        event_name: settings.event_name,
        event_data: settings.event_data,
    }
}

fn form(settings: &RestErrors) -> FormSettings {
    let settings = settings.clone();
    FormSettings {
        name: settings.name,
        body: settings.body,
        headers: settings.headers,
        codes: settings.codes,
    }
}
