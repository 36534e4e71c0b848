//! Profiles: what a route's responder wants around what a client sends, and how its answers are read.
//!
//! A closed set and not a trait object: a route's profile is a value in its settings, so that a reload compares it,
//! a request neither allocates nor looks anything up for it, and a route without one costs a single branch. A new
//! profile is one file here, one variant, and one word in [`Profile::NAMES`]. Only `services::envelope` asks, and `services::idempotency` for a
//! key.

pub mod beamline_admin;
pub mod beamline_results;
pub mod beamline_router;

use std::borrow::Cow;

use contract::{Error, Reply, Request};

/// What stands between a route's clients and its responder.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Profile {
    /// Nothing: payloads pass as they are.
    #[default]
    Raw,
    /// The decide requests of the Beamline router, version 1.
    BeamlineRouterV1(beamline_router::Settings),
    /// The admin requests of the Beamline router, version 1.
    BeamlineAdminV1,
    /// Subscriptions to the results of Beamline's workers, version 1. Requests and publishes pass as they are.
    BeamlineResultsV1(beamline_results::Settings),
}

impl Profile {
    /// The words for them in the configuration.
    pub const NAMES: &'static [&'static str] =
        &["raw", beamline_router::NAME, beamline_admin::NAME, beamline_results::NAME];

    /// Whether payloads pass as they are, so that neither of the others need be asked.
    pub fn is_raw(&self) -> bool {
        matches!(self, Self::Raw)
    }

    /// Whether the acknowledgement of a JetStream stream is no answer to a request.
    pub fn skips_acknowledgements(&self) -> bool {
        matches!(self, Self::BeamlineRouterV1(_) | Self::BeamlineAdminV1)
    }

    /// The idempotency key that the client put into its payload; `None` if there is none, or no place for one. Fails
    /// with `invalid` when what stands there cannot be a key.
    pub fn idempotency_key<'a>(&self, request: &'a Request) -> Result<Option<Cow<'a, str>>, Error> {
        match self {
            Self::Raw | Self::BeamlineAdminV1 | Self::BeamlineResultsV1(_) => Ok(None),
            Self::BeamlineRouterV1(_) => beamline_router::idempotency_key(&request.payload),
        }
    }

    /// Makes of what the client sent what the responder takes. Fails with what the client has to change, before
    /// anything is sent.
    pub fn encode(&self, request: &mut Request) -> Result<(), Error> {
        match self {
            Self::Raw | Self::BeamlineResultsV1(_) => Ok(()),
            Self::BeamlineRouterV1(settings) => beamline_router::encode(settings, request),
            Self::BeamlineAdminV1 => beamline_admin::encode(request),
        }
    }

    /// Reads the backend's answer: a no in its body becomes the error kind `failed`, anything else stays byte for
    /// byte.
    pub fn decode(&self, answer: Result<Reply, Error>) -> Result<Reply, Error> {
        match self {
            Self::Raw | Self::BeamlineResultsV1(_) => answer,
            Self::BeamlineRouterV1(_) => beamline_router::decode(answer),
            Self::BeamlineAdminV1 => beamline_admin::decode(answer),
        }
    }
}
