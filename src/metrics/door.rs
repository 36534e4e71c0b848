//! The counts of a door, each under the door's name.

use std::sync::Arc;

use contract::{Counter, DoorMeters, Gauge};

use super::{MetricError, Registry, SampleKind};

type Gauges = [(&'static str, &'static str, fn(&DoorMeters) -> &Gauge); 5];
type Counters = [(&'static str, &'static str, fn(&DoorMeters) -> &Counter); 10];

const GAUGES: Gauges = [
    ("connections", "Connections open now.", |door| &door.connections),
    ("in_flight", "Requests handed to the pipeline and not answered yet.", |door| &door.in_flight),
    ("streams", "Streams open now.", |door| &door.streams),
    ("buffers_ready", "Pooled read buffers ready for use.", |door| &door.buffers_ready),
    ("buffers_lent", "Pooled read buffers in use.", |door| &door.buffers_lent),
];

const COUNTERS: Counters = [
    ("connections_total", "Connections admitted.", |door| &door.connections_total),
    ("connections_refused_total", "Connections refused: over the cap, or not allowed.", |door| {
        &door.connections_refused_total
    }),
    (
        "accept_failures_total",
        "Times that no connection could be accepted, for want of descriptors or memory.",
        |door| &door.accept_failures_total,
    ),
    ("received_bytes_total", "Bytes read from peers.", |door| &door.received_bytes_total),
    ("sent_bytes_total", "Bytes written to peers.", |door| &door.sent_bytes_total),
    ("protocol_errors_total", "Messages that broke the door's protocol.", |door| &door.protocol_errors_total),
    ("vanished_total", "Connections that ended with requests in flight, which were cancelled.", |door| {
        &door.vanished_total
    }),
    ("stalled_total", "Connections ended because their peer took nothing for too long.", |door| {
        &door.stalled_total
    }),
    ("panics_total", "Requests whose handling panicked; each was answered.", |door| &door.panics_total),
    ("buffers_allocated_total", "Read buffers allocated because none was ready.", |door| {
        &door.buffers_allocated_total
    }),
];

impl Registry {
    /// Shows what a door counts, as `ipc_gateway_door_*{door="…"}`.
    pub fn show_door(&self, door: &str, meters: &Arc<DoorMeters>) -> Result<(), MetricError> {
        let labels = [("door", door)];
        for (name, help, read) in GAUGES {
            let (name, meters) = (format!("ipc_gateway_door_{name}"), Arc::clone(meters));
            #[expect(clippy::cast_precision_loss, reason = "counts of things in memory, below 2^53")]
            let read = move || read(&meters).get() as f64;
            self.sample(&name, help, SampleKind::Gauge, &labels, Box::new(read))?;
        }
        for (name, help, read) in COUNTERS {
            let (name, meters) = (format!("ipc_gateway_door_{name}"), Arc::clone(meters));
            #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, then to 16 digits")]
            let read = move || read(&meters).get() as f64;
            self.sample(&name, help, SampleKind::Counter, &labels, Box::new(read))?;
        }
        Ok(())
    }
}
