//! Metric families, and their text form (OpenMetrics, which Prometheus reads).

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry;
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeStruct, Serializer};

/// A name under which samples are counted, by Prometheus' conventions: `baton_`, base unit, counters end in `_total`.
#[derive(Debug)]
pub struct Family {
    /// Without `_total`.
    name: &'static str,
    help: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// One number of the running node.
#[derive(Debug, Clone)]
pub struct Sample {
    family: &'static Family,
    labels: Vec<(&'static str, String)>,
    value: u64,
}

impl Family {
    /// Something that only grows. `name` without `_total`.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        let kind = Kind::Counter;
        Self { name, help, kind }
    }

    /// Something that goes up and down.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        let kind = Kind::Gauge;
        Self { name, help, kind }
    }

    /// The number at these labels.
    pub fn sample(&'static self, labels: &[(&'static str, &str)], value: u64) -> Sample {
        let labels = labels
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        Sample {
            family: self,
            labels: labels.collect(),
            value,
        }
    }

    /// The name as Prometheus shows it.
    fn full_name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge => self.name.to_owned(),
        }
    }
}

impl Serialize for Sample {
    /// `{"name": ..., "labels": {...}, "value": ...}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Labels<'a>(&'a [(&'static str, String)]);
        impl Serialize for Labels<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(Some(self.0.len()))?;
                for (name, value) in self.0 {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
        let mut fields = serializer.serialize_struct("Sample", 3)?;
        fields.serialize_field("name", &self.family.full_name())?;
        fields.serialize_field("labels", &Labels(&self.labels))?;
        fields.serialize_field("value", &self.value)?;
        fields.end()
    }
}

/// The samples as text.
pub fn encode(samples: Vec<Sample>) -> Result<String, fmt::Error> {
    let mut families: Families = BTreeMap::new();
    for sample in samples {
        let (_, samples) = families
            .entry(sample.family.name)
            .or_insert((sample.family, Vec::new()));
        samples.push((sample.labels, sample.value));
    }
    let mut registry = registry::Registry::default();
    registry.register_collector(Box::new(Scrape(families)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

type Labelled = (Vec<(&'static str, String)>, u64);
type Families = BTreeMap<&'static str, (&'static Family, Vec<Labelled>)>;

/// The samples of one scrape, by family: the format wants each family in one piece.
#[derive(Debug)]
struct Scrape(Families);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (family, samples) in self.0.values() {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut encoder = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (labels, value) in samples {
                if labels.is_empty() {
                    family.kind.encode(&mut encoder, *value)?;
                } else {
                    family
                        .kind
                        .encode(&mut encoder.encode_family(labels)?, *value)?;
                }
            }
        }
        Ok(())
    }
}

impl Kind {
    fn encode(self, encoder: &mut MetricEncoder<'_>, value: u64) -> Result<(), fmt::Error> {
        match self {
            Self::Counter => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
            Self::Gauge => encoder.encode_gauge(&value),
        }
    }
}
