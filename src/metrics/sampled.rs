//! A value that is read when Prometheus asks for it.
//!
//! So a pool or a door keeps one number, in whatever form serves it best, and there is no second copy to forget.

use std::collections::HashMap;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// How a sampled value behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleKind {
    /// Only goes up while the process lives; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One series, its labels fixed, its value asked for.
pub(super) struct Sampled {
    desc: Desc,
    kind: SampleKind,
    read: Box<dyn Fn() -> f64 + Send + Sync>,
}

impl Sampled {
    pub(super) fn new(
        name: &str,
        help: &str,
        kind: SampleKind,
        labels: &[(&str, &str)],
        read: Box<dyn Fn() -> f64 + Send + Sync>,
    ) -> Result<Self, prometheus::Error> {
        let labels: HashMap<String, String> =
            labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), Vec::new(), labels)?;
        Ok(Self { desc, kind, read })
    }
}

impl Collector for Sampled {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let labels: Vec<LabelPair> = self.desc.const_label_pairs.clone();
        let mut metric = Metric::from_label(labels);
        let mut family = MetricFamily::default();
        match self.kind {
            SampleKind::Counter => {
                let mut counter = Counter::default();
                counter.set_value((self.read)());
                metric.set_counter(counter);
                family.set_field_type(MetricType::COUNTER);
            }
            SampleKind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value((self.read)());
                metric.set_gauge(gauge);
                family.set_field_type(MetricType::GAUGE);
            }
        }
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_metric(vec![metric]);
        vec![family]
    }
}
