//! Metrics as numbers again: the lines of Prometheus' text format (version 0.0.4) that this gateway writes.

use std::time::Instant;

/// One reading of all metrics.
pub(crate) struct Samples {
    pub(crate) taken: Instant,
    samples: Vec<Sample>,
}

/// One line.
#[derive(Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

impl Samples {
    /// Reads a page; lines that are no samples are skipped.
    pub(crate) fn parse(page: &str) -> Self {
        let samples = page.lines().filter(|line| !line.starts_with('#')).filter_map(Sample::parse).collect();
        Self { taken: Instant::now(), samples }
    }

    /// All samples of a name.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// The one sample of a name without labels.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.named(name).next().map(|sample| sample.value)
    }

    /// Every sample.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }

    /// What `sample` had grown to in this reading; 0 if it was not there.
    pub(crate) fn same(&self, sample: &Sample) -> f64 {
        self.named(&sample.name).find(|own| own.labels == sample.labels).map_or(0.0, |own| own.value)
    }
}

impl Sample {
    /// The value of a label.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is the other name of one thing: as a use has a maximum.
    pub(crate) fn has_labels_of(&self, other: &Self) -> bool {
        self.labels == other.labels
    }

    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.trim_end().rsplit_once(' ')?;
        let (name, labels) = match series.split_once('{') {
            None => (series, Vec::new()),
            Some((name, labels)) => (name, labels_of(labels.strip_suffix('}')?)?),
        };
        Some(Self { name: name.to_owned(), labels, value: value.parse().ok()? })
    }
}

/// `name="value",…`, where a value has its quotes, backslashes and line feeds escaped.
fn labels_of(mut text: &str) -> Option<Vec<(String, String)>> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let (mut value, mut chars) = (String::new(), rest.char_indices());
        let end = loop {
            match chars.next()? {
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    char => value.push(char),
                },
                (at, '"') => break at,
                (_, char) => value.push(char),
            }
        };
        labels.push((name.to_owned(), value));
        text = rest[end + 1..].trim_start_matches(',');
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let page = "# HELP a b\n# TYPE a counter\na{x=\"1\",y=\"q\\\"\\\\\\n,}\"} 2\na{x=\"2\",y=\"\"} 1e3\nb 0.5\n\nnonsense\n";
        let samples = Samples::parse(page);
        let first = samples.named("a").next().unwrap();
        assert_eq!((first.label("x"), first.label("y"), first.value), (Some("1"), Some("q\"\\\n,}"), 2.0));
        assert_eq!(samples.named("a").map(|sample| sample.value).collect::<Vec<_>>(), [2.0, 1000.0]);
        assert_eq!((samples.value("b"), samples.value("c"), samples.iter().count()), (Some(0.5), None, 3));
        let later = Sample { value: 7.0, ..Sample::parse("a{x=\"1\",y=\"q\\\"\\\\\\n,}\"} 0").unwrap() };
        assert!((samples.same(&later) - 2.0).abs() < 1e-9);
    }
}
