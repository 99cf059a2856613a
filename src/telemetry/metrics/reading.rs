//! Numbers that somebody else keeps, read at each scrape: the process as the kernel sees it, and
//! the lines that the application log lost.

use procfs::process::{LimitValue, Process, Stat};
use prometheus::Opts;
use prometheus::core::{Collector, Desc, Describer};
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};

use crate::telemetry::log;

/// Collects all of [`READINGS`]; those that cannot be read are left out.
pub(super) struct Readings {
    descriptions: Vec<Desc>,
}

/// One metric, and where its value comes from.
struct Reading {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    read: fn(&Facts) -> Option<f64>,
}

/// What the kernel tells; nothing where `/proc` is not there.
struct Facts {
    process: Option<Process>,
    stat: Option<Stat>,
}

/// The names are those that every Prometheus client library uses.
const READINGS: [Reading; 8] = [
    Reading {
        name: "gateway_log_dropped_lines_total",
        help: "Lines of the application log that were lost, because stderr took none.",
        kind: MetricType::COUNTER,
        read: |_| Some(log::dropped_lines() as f64),
    },
    Reading {
        name: "process_cpu_seconds_total",
        help: "CPU time spent by the process, user and system.",
        kind: MetricType::COUNTER,
        read: |facts| {
            let stat = facts.stat.as_ref()?;
            Some((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
        },
    },
    Reading {
        name: "process_resident_memory_bytes",
        help: "Memory of the process that is in RAM.",
        kind: MetricType::GAUGE,
        read: |facts| Some((facts.stat.as_ref()?.rss * procfs::page_size()) as f64),
    },
    Reading {
        name: "process_virtual_memory_bytes",
        help: "Address space of the process.",
        kind: MetricType::GAUGE,
        read: |facts| Some(facts.stat.as_ref()?.vsize as f64),
    },
    Reading {
        name: "process_open_fds",
        help: "Open file descriptors, such as connections.",
        kind: MetricType::GAUGE,
        read: |facts| Some(facts.process.as_ref()?.fd_count().ok()? as f64),
    },
    Reading {
        name: "process_max_fds",
        help: "File descriptors that the process may have open at once.",
        kind: MetricType::GAUGE,
        read: |facts| {
            let limits = facts.process.as_ref()?.limits().ok()?;
            Some(match limits.max_open_files.soft_limit {
                LimitValue::Value(most) => most as f64,
                LimitValue::Unlimited => f64::INFINITY,
            })
        },
    },
    Reading {
        name: "process_start_time_seconds",
        help: "When the process started, in seconds since 1970.",
        kind: MetricType::GAUGE,
        read: |facts| {
            let since_boot =
                facts.stat.as_ref()?.starttime as f64 / procfs::ticks_per_second() as f64;
            Some(procfs::boot_time_secs().ok()? as f64 + since_boot)
        },
    },
    Reading {
        name: "process_threads",
        help: "Threads of the process.",
        kind: MetricType::GAUGE,
        read: |facts| Some(facts.stat.as_ref()?.num_threads as f64),
    },
];

impl Readings {
    pub(super) fn new() -> Self {
        let describe = |reading: &Reading| Opts::new(reading.name, reading.help).describe();
        Self {
            descriptions: READINGS
                .iter()
                .map(|reading| describe(reading).expect("a valid name"))
                .collect(),
        }
    }
}

impl Collector for Readings {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let process = Process::myself().ok();
        let stat = process.as_ref().and_then(|process| process.stat().ok());
        let facts = Facts { process, stat };
        READINGS
            .iter()
            .filter_map(|reading| Some(reading.family((reading.read)(&facts)?)))
            .collect()
    }
}

/// A gauge whose number another room keeps, because it is more than a metric there.
pub(super) struct ReadElsewhere {
    description: Desc,
    name: &'static str,
    help: &'static str,
    read: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl ReadElsewhere {
    pub(super) fn new(
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self {
            description: Opts::new(name, help).describe().expect("a valid name"),
            name,
            help,
            read: Box::new(read),
        }
    }
}

impl Collector for ReadElsewhere {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let value = (self.read)() as f64;
        vec![family(self.name, self.help, MetricType::GAUGE, value)]
    }
}

impl Reading {
    fn family(&self, value: f64) -> MetricFamily {
        family(self.name, self.help, self.kind, value)
    }
}

fn family(name: &str, help: &str, kind: MetricType, value: f64) -> MetricFamily {
    let mut metric = Metric::default();
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(vec![metric]);
    family
}
