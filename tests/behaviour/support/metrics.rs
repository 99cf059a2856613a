//! Reads Prometheus text, and takes no nonsense.

use std::collections::{BTreeMap, BTreeSet};

/// A name, what it means, and its samples.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: String,
    /// `counter`, `gauge` or `histogram`.
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) samples: Vec<Sample>,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The family's name; with an ending, where that is a histogram.
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// What was scraped at one moment.
#[derive(Debug)]
pub(crate) struct Scrape(pub(crate) Vec<Family>);

impl Scrape {
    /// The sum of all samples of this name that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut found = self.samples().filter(|sample| {
            let has =
                |(key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|v| v == value);
            sample.name == name && labels.iter().all(has)
        });
        let first = found.next();
        let first = first.unwrap_or_else(|| panic!("there is no {name} with {labels:?}"));
        first.value + found.map(|sample| sample.value).sum::<f64>()
    }

    /// All samples of all families.
    pub(crate) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.0.iter().flat_map(|family| &family.samples)
    }
}

/// Reads the text form, version 0.0.4, as this gateway has to write it.
///
/// # Errors
/// What breaks a rule: the format's, and those for names that promtool checks.
pub(crate) fn parse(text: &str) -> Result<Scrape, String> {
    let mut families: Vec<Family> = Vec::new();
    let mut names = BTreeSet::new();
    let mut series = BTreeSet::new();
    if !text.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(header) = line.strip_prefix("# HELP ") {
            let (name, help) = header.split_once(' ').ok_or(format!("no text: {line}"))?;
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE "));
            let kind = kind.and_then(|kind| kind.strip_prefix(name)?.strip_prefix(' '));
            let kind = kind.ok_or(format!("no TYPE after HELP of {name}"))?;
            check_name(name, kind)?;
            if !names.insert(name.to_owned()) {
                return Err(format!("{name} is there twice"));
            }
            families.push(Family {
                name: name.to_owned(),
                kind: kind.to_owned(),
                help: help.to_owned(),
                samples: Vec::new(),
            });
        } else {
            let family = families.last_mut().ok_or(format!("no family: {line}"))?;
            let sample = parse_sample(line).ok_or(format!("no sample: {line}"))?;
            let ending = sample.name.strip_prefix(&family.name);
            let is_known = match family.kind.as_str() {
                "histogram" => matches!(ending, Some("_bucket" | "_sum" | "_count")),
                _ => ending == Some(""),
            };
            if !is_known {
                return Err(format!("not of {}: {line}", family.name));
            }
            if !series.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(format!("there twice: {line}"));
            }
            family.samples.push(sample);
        }
    }
    for family in &families {
        check_values(family)?;
    }
    Ok(Scrape(families))
}

fn check_name(name: &str, kind: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c == '_';
    let is_total = name.ends_with("_total");
    match kind {
        _ if !name.chars().all(is_plain) => Err(format!("an odd name: {name}")),
        "counter" if !is_total => Err(format!("a counter without _total: {name}")),
        "gauge" | "histogram" if is_total => Err(format!("no counter, but _total: {name}")),
        "counter" | "gauge" | "histogram" => Ok(()),
        _ => Err(format!("an odd type of {name}: {kind}")),
    }
}

/// `name{label="value",…} number`; the values of this gateway need no escapes.
fn parse_sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, rest) = series.split_once('{')?;
    let mut labels = BTreeMap::new();
    for label in rest.strip_suffix('}')?.split(',') {
        let (key, value) = label.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        let is_plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let is_first = labels.insert(key.to_owned(), value.to_owned()).is_none();
        if !is_plain || !is_first || value.contains(['"', '\\']) {
            return None;
        }
    }
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().ok()?,
    })
}

fn check_values(family: &Family) -> Result<(), String> {
    let name = &family.name;
    if family.samples.is_empty() {
        return Err(format!("{name} has no sample"));
    }
    if family.kind == "gauge" {
        return Ok(());
    }
    let mut previous: Option<&Sample> = None;
    for sample in &family.samples {
        if sample.value < 0.0 {
            return Err(format!("{name} is negative"));
        }
        // A histogram's buckets are cumulative, and its count is that of the last of them.
        if let Some(previous) = previous.filter(|previous| previous.name.ends_with("_bucket")) {
            let is_last = previous.labels["le"] == "+Inf";
            let next_bucket = sample.name.ends_with("_bucket") && !is_last;
            if next_bucket && sample.value < previous.value {
                return Err(format!("the buckets of {name} are not cumulative"));
            }
            if is_last == next_bucket {
                return Err(format!("{name} has no bucket +Inf"));
            }
        }
        previous = Some(sample);
    }
    Ok(())
}
