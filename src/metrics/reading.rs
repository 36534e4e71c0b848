//! Values of the backend, read when Prometheus asks. Unlike a sample, their labels come and go: a pool's
//! members do.

use std::collections::BTreeMap;

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// One value of a backend.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Full metric name, such as `ipc_gateway_nats_connections`.
    pub name: &'static str,
    /// What it means, with its unit.
    pub help: &'static str,
    /// A counter only grows; otherwise it is a gauge.
    pub counter: bool,
    /// Label names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The value now.
    pub value: f64,
}

/// The families of these readings, in the order of their names.
pub(super) fn families(readings: Vec<Reading>) -> Vec<MetricFamily> {
    let mut families = BTreeMap::<&'static str, MetricFamily>::new();
    for reading in readings {
        let label = |(name, value): (&'static str, String)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value);
            pair
        };
        let mut metric = Metric::from_label(reading.labels.into_iter().map(label).collect());
        let kind = if reading.counter {
            let mut counter = Counter::default();
            counter.set_value(reading.value);
            metric.set_counter(counter);
            MetricType::COUNTER
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(reading.value);
            metric.set_gauge(gauge);
            MetricType::GAUGE
        };
        let family = families.entry(reading.name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(reading.name.to_owned());
            family.set_help(reading.help.to_owned());
            family.set_field_type(kind);
            family
        });
        family.mut_metric().push(metric);
    }
    families.into_values().collect()
}
