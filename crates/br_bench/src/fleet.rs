//! A fleet of scrape targets as a company has them: half are machines (node exporter), half are Python services.
//!
//! Everything follows from a seed. Counters rest, run and begin anew; gauges wander; classic histograms add up by their bounds;
//! now and then a service is deployed: its pod has a new name, and its counters begin at zero.

use crate::input::{Seeded, compress, field};
use br_std::varint;
use std::fmt::Write as _;

/// Series of each target.
pub(crate) const SERIES_PER_TARGET: usize = 2500;
/// Series of one request, as a Prometheus server sends them.
const SERIES_PER_REQUEST: usize = 2000;
/// A little less than the interval.
const SPREAD_MS: i64 = 14_983;
/// One service is deployed anew after this many scrapes.
const SCRAPES_PER_DEPLOY: usize = 4;

pub(crate) struct Fleet {
    targets: Vec<Target>,
    scrapes: usize,
}

struct Target {
    number: usize,
    deploys: usize,
    series: Vec<Series>,
    /// Requests since the last scrape, by histogram family.
    observed: Vec<u64>,
    seeded: Seeded,
}

struct Series {
    /// The label fields of a `prometheus.TimeSeries`, as they go over the wire.
    wire_labels: Vec<u8>,
    shape: Shape,
    value: f64,
}

/// One series before it has a target.
struct Template {
    name: String,
    labels: Vec<(&'static str, String)>,
    shape: Shape,
}

/// How a value moves.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Constant(f64),
    /// Whole steps below this; rests in a third of the scrapes.
    Counter(u64),
    /// Hundredths, up to 15 a scrape: seconds of a processor.
    Seconds,
    /// A multiple of the first around the second.
    Gauge(f64, f64),
    /// This part of a family's observations.
    Share(u32, f64),
    /// The sum of what was observed: floats with all their digits.
    Sum(u32),
}

impl Fleet {
    pub(crate) fn new(series: usize) -> Self {
        let targets = (0..series.div_ceil(SERIES_PER_TARGET)).map(Target::new).collect();
        Self { targets, scrapes: 0 }
    }

    pub(crate) fn series_count(&self) -> usize {
        self.targets.len() * SERIES_PER_TARGET
    }

    /// The remote-write 1.0 requests of one scrape of everything, compressed.
    pub(crate) fn scrape(&mut self, at_ms: i64) -> Vec<Vec<u8>> {
        self.step();
        let times = |target: &Target| std::iter::repeat(at_ms - target.behind_ms());
        let mut series = self.targets.iter().flat_map(|target| target.series.iter().zip(times(target))).peekable();
        let mut requests = Vec::new();
        while series.peek().is_some() {
            let mut message = Vec::new();
            for (one, at_ms) in series.by_ref().take(SERIES_PER_REQUEST) {
                one.encode(at_ms, &mut message);
            }
            requests.push(compress(&message));
        }
        requests
    }

    fn step(&mut self) {
        self.scrapes += 1;
        for target in &mut self.targets {
            target.step();
        }
        if self.scrapes.is_multiple_of(SCRAPES_PER_DEPLOY) {
            let services: Vec<usize> = (0..self.targets.len()).filter(|number| !is_machine(*number)).collect();
            if let Some(number) = services.get(self.scrapes / SCRAPES_PER_DEPLOY % services.len().max(1)) {
                self.targets[*number].deploy();
            }
        }
    }

    /// What a target shows to a scraper after one more step.
    pub(crate) fn exposition(&mut self, number: usize) -> String {
        let target = &mut self.targets[number];
        target.step();
        let mut text = String::new();
        for (template, series) in templates(target.number).iter().zip(&target.series) {
            let labels: Vec<String> = template.labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}{{{}}} {}", template.name, labels.join(","), series.value);
        }
        text
    }
}

fn is_machine(number: usize) -> bool {
    number.is_multiple_of(2)
}

impl Target {
    /// A scraper spreads its targets over the interval.
    fn behind_ms(&self) -> i64 {
        self.number as i64 * 1021 % SPREAD_MS
    }

    fn new(number: usize) -> Self {
        let templates = templates(number);
        let families = templates.iter().filter(|template| matches!(template.shape, Shape::Sum(_))).count();
        let mut seeded = Seeded(number as u64 + 77);
        let series = templates.iter().map(|template| Series {
            wire_labels: wire_labels(template, number, 0),
            shape: template.shape,
            value: template.shape.start(&mut seeded),
        });
        Self { number, deploys: 0, series: series.collect(), observed: vec![0; families], seeded }
    }

    fn step(&mut self) {
        for observed in &mut self.observed {
            *observed = if self.seeded.below(2) == 0 { 0 } else { self.seeded.below(400) };
        }
        for series in &mut self.series {
            series.step(&self.observed, &mut self.seeded);
        }
    }

    fn deploy(&mut self) {
        self.deploys += 1;
        for (template, series) in templates(self.number).iter().zip(&mut self.series) {
            series.wire_labels = wire_labels(template, self.number, self.deploys);
            series.value = 0.0;
        }
    }
}

impl Shape {
    fn start(self, seeded: &mut Seeded) -> f64 {
        match self {
            Self::Constant(value) => value,
            Self::Counter(step) => (seeded.below(100_000) * step) as f64,
            Self::Seconds => seeded.below(100_000_000) as f64 / 100.0,
            Self::Gauge(unit, mean) => (mean / unit).round() * unit,
            Self::Share(..) | Self::Sum(_) => 0.0,
        }
    }
}

impl Series {
    fn step(&mut self, observed: &[u64], seeded: &mut Seeded) {
        match self.shape {
            Shape::Constant(_) => {}
            Shape::Counter(step) => {
                if seeded.below(3) != 0 {
                    self.value += seeded.below(step) as f64;
                }
            }
            Shape::Seconds => self.value = ((self.value * 100.0).round() + seeded.below(1500) as f64) / 100.0,
            Shape::Gauge(unit, mean) => {
                let drift = (mean - self.value) / unit / 16.0;
                let noise = seeded.below(2001) as f64 / 1000.0 - 1.0;
                self.value = ((self.value / unit) + drift + noise * (mean / unit / 64.0).max(1.0)).round().max(0.0) * unit;
            }
            Shape::Share(family, part) => self.value += (observed[family as usize] as f64 * part).round(),
            Shape::Sum(family) => {
                let observed = observed[family as usize];
                self.value += observed as f64 * (0.05 + seeded.below(1_000_000_007) as f64 / 3.3e9);
            }
        }
    }

    /// Field 1 of `prometheus.WriteRequest`: the labels, and one sample in field 2.
    fn encode(&self, at_ms: i64, message: &mut Vec<u8>) {
        let mut sample = vec![1 << 3 | 1];
        sample.extend_from_slice(&self.value.to_le_bytes());
        sample.push(2 << 3);
        varint::put_u64(&mut sample, at_ms as u64);
        message.push(1 << 3 | 2);
        varint::put_u64(message, (self.wire_labels.len() + sample.len() + 2) as u64);
        message.extend_from_slice(&self.wire_labels);
        field(message, 2, &sample);
    }
}

/// What a scraper knows of a target: its labels there.
pub(crate) fn target_labels(number: usize) -> [(&'static str, String); 2] {
    let job = if is_machine(number) { "node".to_owned() } else { format!("shop-{}", number / 2 % 10) };
    let port = if is_machine(number) { 9100 } else { 8000 };
    [("instance", format!("10.1.{}.{}:{port}", number / 250, number % 250)), ("job", job)]
}

fn wire_labels(template: &Template, target: usize, deploys: usize) -> Vec<u8> {
    let mut labels = vec![("__name__", template.name.clone()), ("cluster", "eu-west-1".to_owned())];
    labels.extend(target_labels(target));
    if !is_machine(target) {
        labels.push(("namespace", "production".to_owned()));
        labels.push(("pod", format!("shop-{}-6d4cf56db6-{:05x}", target / 2 % 10, target * 7919 + deploys * 104_729)));
    }
    labels.extend(template.labels.iter().cloned());
    labels.sort();
    let mut wire = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        field(&mut label, 1, name.as_bytes());
        field(&mut label, 2, value.as_bytes());
        field(&mut wire, 1, &label);
    }
    wire
}

fn templates(target: usize) -> Vec<Template> {
    let mut templates = Templates::default();
    if is_machine(target) {
        templates.machine();
    } else {
        templates.service();
    }
    templates.all
}

#[derive(Default)]
struct Templates {
    all: Vec<Template>,
}

type Words = &'static [&'static str];

impl Templates {
    fn add(&mut self, name: impl Into<String>, labels: &[(&'static str, &str)], shape: Shape) {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.all.push(Template { name: name.into(), labels, shape });
    }

    fn machine(&mut self) {
        self.processors();
        self.memory();
        self.disks();
        self.networks();
        self.oddities();
        const STATES: Words = &["activating", "active", "deactivating", "failed", "inactive"];
        for unit in 0.. {
            for state in STATES {
                if self.all.len() == SERIES_PER_TARGET {
                    return;
                }
                let labels = [("name", &*format!("unit-{unit}.service")), ("state", *state), ("type", "simple")];
                self.add("node_systemd_unit_state", &labels, Shape::Constant(f64::from(u8::from(*state == "active"))));
            }
        }
    }

    fn processors(&mut self) {
        const MODES: Words = &["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"];
        for cpu in 0..32 {
            for mode in MODES {
                let shape = if matches!(*mode, "irq" | "nice") { Shape::Constant(0.0) } else { Shape::Seconds };
                self.add("node_cpu_seconds_total", &[("cpu", &cpu.to_string()), ("mode", mode)], shape);
            }
        }
        for name in ["context_switches", "intr", "forks"] {
            self.add(format!("node_{name}_total"), &[], Shape::Counter(40_000));
        }
        for (name, mean) in [("load1", 4.0), ("load5", 4.0), ("load15", 4.0)] {
            self.add(format!("node_{name}"), &[], Shape::Gauge(0.01, mean));
        }
    }

    fn memory(&mut self) {
        const GIGABYTE: f64 = 1e9;
        for name in ["MemTotal", "SwapTotal", "HugePages_Total", "Hugepagesize"] {
            self.add(format!("node_memory_{name}_bytes"), &[], Shape::Constant(67.2 * GIGABYTE));
        }
        for name in ["MemAvailable", "MemFree", "SwapFree", "Cached", "Buffers", "Active", "Inactive", "Slab", "Dirty", "Mapped"]
        {
            self.add(format!("node_memory_{name}_bytes"), &[], Shape::Gauge(4096.0, 30.0 * GIGABYTE));
        }
        for name in ["pgmajfault", "pgfault", "pgpgin", "pgpgout", "pswpin", "pswpout"] {
            self.add(format!("node_vmstat_{name}"), &[], Shape::Counter(3000));
        }
        self.add("node_vmstat_oom_kill", &[], Shape::Constant(0.0));
    }

    fn disks(&mut self) {
        const COUNTERS: Words = &["reads_completed", "writes_completed", "read_bytes", "written_bytes", "reads_merged"];
        const TIMES: Words = &["read_time_seconds", "write_time_seconds", "io_time_seconds", "io_time_weighted_seconds"];
        for disk in 0..24 {
            let device = format!("nvme{disk}n1");
            for name in COUNTERS {
                self.add(format!("node_disk_{name}_total"), &[("device", &device)], Shape::Counter(9000));
            }
            for name in TIMES {
                self.add(format!("node_disk_{name}_total"), &[("device", &device)], Shape::Seconds);
            }
            let mount = format!("/srv/{disk}");
            let labels = [("device", &*device), ("fstype", "ext4"), ("mountpoint", &*mount)];
            for (name, size) in [("avail_bytes", 2e11), ("free_bytes", 2.2e11), ("files_free", 3e7)] {
                self.add(format!("node_filesystem_{name}"), &labels, Shape::Gauge(4096.0, size));
            }
            for (name, size) in [("size_bytes", 1e12), ("files", 6e7), ("readonly", 0.0), ("device_error", 0.0)] {
                self.add(format!("node_filesystem_{name}"), &labels, Shape::Constant(size));
            }
        }
    }

    fn networks(&mut self) {
        const KINDS: Words = &["bytes", "packets", "errs", "drop", "fifo", "compressed"];
        for device in 0..24 {
            let device = format!("eth{device}");
            for direction in ["receive", "transmit"] {
                for kind in KINDS {
                    let shape = if matches!(*kind, "bytes" | "packets") { Shape::Counter(900_000) } else { Shape::Constant(0.0) };
                    self.add(format!("node_network_{direction}_{kind}_total"), &[("device", &device)], shape);
                }
            }
            for (name, value) in [("speed_bytes", 1.25e9), ("mtu_bytes", 1500.0), ("up", 1.0), ("carrier", 1.0)] {
                self.add(format!("node_network_{name}"), &[("device", &device)], Shape::Constant(value));
            }
        }
    }

    /// What alert rules ask for beside that.
    fn oddities(&mut self) {
        for sensor in 0..16 {
            let labels = [("chip", "platform_coretemp_0"), ("sensor", &*format!("temp{sensor}"))];
            self.add("node_hwmon_temp_celsius", &labels, Shape::Gauge(1.0, 55.0));
            self.add("node_hwmon_temp_max_celsius", &labels, Shape::Constant(90.0));
            self.add("node_hwmon_temp_crit_alarm_celsius", &labels, Shape::Constant(0.0));
            self.add("node_edac_correctable_errors_total", &labels, Shape::Constant(0.0));
            self.add("node_edac_uncorrectable_errors_total", &labels, Shape::Constant(0.0));
        }
        for disk in 0..4 {
            let device = format!("md{disk}");
            self.add("node_md_disks_required", &[("device", &device)], Shape::Constant(2.0));
            for state in ["active", "failed", "spare"] {
                let count = if state == "active" { 2.0 } else { 0.0 };
                self.add("node_md_disks", &[("device", &device), ("state", state)], Shape::Constant(count));
            }
        }
        for (name, value) in [("bonding_active", 2.0), ("bonding_slaves", 2.0), ("timex_sync_status", 1.0)] {
            self.add(format!("node_{name}"), &[], Shape::Constant(value));
        }
        self.add("node_timex_offset_seconds", &[], Shape::Gauge(1e-6, 2e-4));
        self.add("node_timex_maxerror_seconds", &[], Shape::Gauge(1e-3, 0.5));
        self.add("node_nf_conntrack_entries", &[], Shape::Gauge(1.0, 20_000.0));
        self.add("node_nf_conntrack_entries_limit", &[], Shape::Constant(262_144.0));
        self.add("node_uname_info", &[("release", "6.12.0"), ("sysname", "Linux")], Shape::Constant(1.0));
    }

    fn service(&mut self) {
        const METHODS: Words = &["DELETE", "GET", "PATCH", "POST", "PUT"];
        const CODES: Words = &["200", "201", "400", "404", "500"];
        for endpoint in 0..25 {
            for method in METHODS {
                for code in CODES {
                    let labels = [("code", *code), ("handler", &*format!("/api/v1/resource/{endpoint}")), ("method", *method)];
                    self.add("http_requests_total", &labels, Shape::Counter(if *code == "200" { 300 } else { 3 }));
                }
            }
        }
        for endpoint in 0..75_u32 {
            self.histogram(endpoint);
        }
        for generation in ["0", "1", "2"] {
            for name in ["objects_collected", "objects_uncollectable", "collections"] {
                self.add(format!("python_gc_{name}_total"), &[("generation", generation)], Shape::Counter(50));
            }
        }
        self.add("process_cpu_seconds_total", &[], Shape::Seconds);
        self.add("process_start_time_seconds", &[], Shape::Constant(1_764_000_000.25));
        self.add("process_resident_memory_bytes", &[], Shape::Gauge(4096.0, 2e8));
        self.add("process_open_fds", &[], Shape::Gauge(1.0, 120.0));
        for at in 0.. {
            if self.all.len() == SERIES_PER_TARGET {
                return;
            }
            let (pool, state) = (format!("pool-{}", at / 3), ["busy", "idle", "waiting"][at % 3]);
            self.add("db_pool_connections", &[("pool", &pool), ("state", state)], Shape::Gauge(1.0, 8.0));
        }
    }

    fn histogram(&mut self, endpoint: u32) {
        const BOUNDS: [(&str, f64); 15] = [
            ("0.005", 0.02),
            ("0.01", 0.08),
            ("0.025", 0.25),
            ("0.05", 0.46),
            ("0.075", 0.6),
            ("0.1", 0.71),
            ("0.25", 0.9),
            ("0.5", 0.95),
            ("0.75", 0.97),
            ("1.0", 0.98),
            ("2.5", 0.99),
            ("5.0", 0.995),
            ("7.5", 0.999),
            ("10.0", 1.0),
            ("+Inf", 1.0),
        ];
        const NAME: &str = "http_request_duration_seconds";
        let handler = format!("/api/v1/resource/{endpoint}");
        for (bound, part) in BOUNDS {
            self.add(format!("{NAME}_bucket"), &[("handler", &handler), ("le", bound)], Shape::Share(endpoint, part));
        }
        self.add(format!("{NAME}_count"), &[("handler", &handler)], Shape::Share(endpoint, 1.0));
        self.add(format!("{NAME}_sum"), &[("handler", &handler)], Shape::Sum(endpoint));
    }
}
