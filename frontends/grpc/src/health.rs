//! `grpc.health.v1`: whether the gateway serves, as its readiness has it (gRPC Health Checking Protocol).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use contract::{Drain, Error, Kind, TraceContext};
use futures_util::stream::{self, Stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::Ready;
use crate::events::draining;
use crate::status::Telling;

/// Services that are known by name: the whole, and the one there is.
const SERVICES: [&str; 2] = ["", "gateway.v1.Gateway"];
/// Pause between two looks while somebody watches.
const LOOK: Duration = Duration::from_millis(250);

/// The health service.
#[derive(Clone)]
pub(crate) struct Readiness {
    pub(crate) ready: Ready,
    pub(crate) drain: Drain,
    pub(crate) telling: Telling,
}

impl Readiness {
    fn status(&self) -> ServingStatus {
        let serving = !self.drain.is_announced() && (self.ready)();
        if serving { ServingStatus::Serving } else { ServingStatus::NotServing }
    }
}

fn told(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for Readiness {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !SERVICES.contains(&&*request.get_ref().service) {
            let error = Error::new(Kind::NotFound, "there is no such service");
            return Err(self.telling.status(&error, &TraceContext::start()));
        }
        Ok(Response::new(told(self.status())))
    }

    /// Tells the status at once and with each change. When the gateway stops it tells that, and ends.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let is_known = SERVICES.contains(&&*request.get_ref().service);
        let leave = Box::pin(self.drain.leave());
        let readiness = Arc::new(self.clone());
        let watching = Watching { readiness, is_known, last: None, leave, leaves: false };
        Ok(Response::new(Box::pin(stream::try_unfold(watching, Watching::next))))
    }
}

struct Watching {
    readiness: Arc<Readiness>,
    is_known: bool,
    last: Option<ServingStatus>,
    leave: Pin<Box<dyn Future<Output = ()> + Send>>,
    leaves: bool,
}

impl Watching {
    async fn next(mut self) -> Result<Option<(HealthCheckResponse, Self)>, Status> {
        let readiness = Arc::clone(&self.readiness);
        loop {
            let status = if self.is_known { readiness.status() } else { ServingStatus::ServiceUnknown };
            if self.last != Some(status) {
                self.last = Some(status);
                return Ok(Some((told(status), self)));
            }
            // Behind the change, so that the last thing told before the end is that the gateway stops.
            if self.leaves {
                let error = draining(&readiness.drain);
                return Err(readiness.telling.status(&error, &TraceContext::start()));
            }
            tokio::select! {
                () = &mut self.leave => self.leaves = true,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}
