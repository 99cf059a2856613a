//! An explanation as a person reads it: one thing a line, aligned.

use std::fmt;

use serde_json::{Map, Value};

use super::{AppliedLimit, Explanation, Fate, ForwardedRequest, RefusedRequest};
use crate::config::Dimension;

/// Where the second column begins.
const LABEL_WIDTH: usize = 11;

/// Where the third one begins, counted from the second.
const NAME_WIDTH: usize = 17;

/// How long a list may become before it goes on in the next line.
const LIST_WIDTH: usize = 84;

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fate, rows) = match &self.result {
            Fate::Refused(answered) if answered.status < 400 => ("answered here", answered.rows()),
            Fate::Refused(refused) => ("refused", refused.rows()),
            Fate::Forwarded(forwarded) => ("forwarded", forwarded.rows()),
        };
        write!(formatter, "{} {}: {fate}", self.method, self.target)?;
        row(formatter, "environment", self.environment.as_str())?;
        let mut last_label = "";
        for (label, text) in rows {
            // What is many stands below its first line's label.
            let shown = if label == last_label { "" } else { label };
            row(formatter, shown, &text)?;
            last_label = label;
        }
        Ok(())
    }
}

fn row(formatter: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    write!(formatter, "\n{label:LABEL_WIDTH$}  {text}")
}

/// A label and the text beside it.
type Row = (&'static str, String);

impl RefusedRequest {
    fn rows(&self) -> Vec<Row> {
        let code = self.code.unwrap_or("(no problem document)");
        let mut rows = vec![
            ("status", format!("{} {code}", self.status)),
            ("detail", self.detail.to_owned()),
        ];
        rows.extend(self.allow.clone().map(|allow| ("allow", allow)));
        rows.push(("outcome", "not-sent".to_owned()));
        rows
    }
}

impl ForwardedRequest {
    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![
            ("path", self.path.clone()),
            ("route", self.route.clone()),
            ("upstream", self.upstream_url.clone()),
        ];
        if self.limits.is_empty() {
            rows.push(("limits", "none".to_owned()));
        }
        rows.extend(
            self.limits
                .iter()
                .map(|limit| ("limits", limit.to_string())),
        );

        let removed = &self.headers.always_removed;
        let configured = &self.headers.removed_by_configuration;
        rows.push((
            "removed",
            "what Connection names, and always (also spelt with _ or . for -):".to_owned(),
        ));
        rows.extend(lines(removed).map(|line| ("removed", line)));
        if !configured.is_empty() {
            rows.push(("removed", "by headers.remove:".to_owned()));
        }
        rows.extend(lines(configured).map(|line| ("removed", line)));
        let set = self.headers.set.iter();
        rows.extend(set.map(|field| ("set", format!("{:NAME_WIDTH$}{}", field.name, field.value))));

        let size = |key| text(&self.hold, key);
        rows.push((
            "body",
            format!("held whole up to {}, else streamed", size("hold_body")),
        ));
        rows.push((
            "answer",
            format!("held whole up to {}, else streamed", size("hold_answer")),
        ));
        rows.extend(self.listeners.iter().map(|listener| {
            let address = text(listener, "address");
            let bounds = listener.keys().filter(|key| *key != "address");
            let bounds: Vec<_> = bounds
                .map(|key| format!("{key} {}", text(listener, key)))
                .collect();
            (
                "listener",
                format!("{address:NAME_WIDTH$}{}", bounds.join(", ")),
            )
        }));
        let deadlines = self.deadlines.keys();
        let deadlines: Vec<_> = deadlines
            .map(|key| format!("{key} {}", text(&self.deadlines, key)))
            .collect();
        rows.extend(lines(&deadlines).map(|line| ("deadlines", line)));
        rows
    }
}

impl fmt::Display for AppliedLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per.as_slice() {
            [] => "the whole gateway".to_owned(),
            per => {
                let words: Vec<_> = per.iter().map(word).collect();
                format!("each {}", words.join(" and "))
            }
        };
        write!(formatter, "{:NAME_WIDTH$}{per}: ", self.name)?;
        match (self.requests, &self.period, self.burst, self.concurrency) {
            (Some(requests), Some(period), Some(burst), _) => {
                write!(formatter, "{requests} in {period}, burst {burst}")?;
            }
            (_, _, _, Some(concurrency)) => write!(formatter, "{concurrency} at a time")?,
            _ => {}
        }
        write!(formatter, ", {}", self.mode.as_str())
    }
}

fn word(dimension: &Dimension) -> &'static str {
    match dimension {
        Dimension::Route => "route",
        Dimension::ClientIp => "client_ip",
    }
}

/// A value as it is written, without the quotes.
fn text<'s>(settings: &'s Map<String, Value>, key: &str) -> &'s str {
    settings
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A list in lines of bearable length.
fn lines<T: AsRef<str>>(items: &[T]) -> impl Iterator<Item = String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items.iter().map(AsRef::as_ref) {
        match lines.last_mut() {
            Some(line) if line.len() + item.len() < LIST_WIDTH => {
                line.push_str(", ");
                line.push_str(item);
            }
            _ => lines.push(item.to_owned()),
        }
    }
    lines.into_iter()
}
