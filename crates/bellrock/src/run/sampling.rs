//! What the program's processes use, as series. The names are those of OpenTelemetry's conventions for processes: `prometheus_client`
//! has names of its own for one process (`process_cpu_seconds_total`), and a sum over a job must not count them twice.

use super::send::Upstream;
use super::tree::{Tree, Usage};
use br_env::Clock;
use br_ingest::sink::SampleSink;
use br_model::{Labels, MetricBatch, Sample, SeriesSamples, labels::METRIC_NAME, stale_nan};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Series of one moment: a name, a label of its own, a value.
type Point = (&'static str, Option<(&'static str, &'static str)>, f64);

pub(super) struct Sampling {
    pub(super) interval: Duration,
    pub(super) upstream: Upstream,
    pub(super) labels: Labels,
    pub(super) clock: Arc<dyn Clock>,
}

impl Sampling {
    /// Looks at the tree below `pid` on a beat until `ended`, then once more, and marks its series as ended.
    /// A sample that cannot be sent is gone: the next one has the same counters.
    pub(super) async fn run(self, pid: u32, mut ended: watch::Receiver<bool>) {
        let mut tree = Tree::new(pid);
        let mut last = None;
        let mut beat = tokio::time::interval(self.interval.max(Duration::from_millis(100)));
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                _ = ended.wait_for(|ended| *ended) => break,
            }
            let sampled = tokio::task::spawn_blocking(move || {
                let usage = tree.sample();
                (tree, usage)
            });
            let Ok((next, usage)) = sampled.await else { return };
            tree = next;
            if let Some(usage) = usage {
                self.send(points(&usage)).await;
                last = Some(usage);
            }
        }
        let usage = Usage { cpu_seconds: tree.cpu_seconds_at_the_end(), ..last.unwrap_or_default() };
        let points = points(&usage);
        let ends = points.iter().map(|(name, label, _)| (*name, *label, stale_nan())).collect();
        // A program that was over before the first look has a last value all the same.
        self.send(points).await;
        self.send(ends).await;
    }

    async fn send(&self, points: Vec<Point>) {
        let at_ms = self.clock.now().as_millis();
        let series = points.into_iter().map(|(name, label, value)| {
            let mut named = self.labels.to_builder();
            named.set(METRIC_NAME, name);
            if let Some((key, value)) = label {
                named.set(key, value);
            }
            // An end a moment after the last value, in the same millisecond, would hide it.
            let at_ms = if value.is_nan() { at_ms + 1 } else { at_ms };
            SeriesSamples { labels: named.build(), samples: vec![Sample::float(at_ms, value)], exemplars: Vec::new() }
        });
        let batch = MetricBatch { series: series.collect(), metadata: Vec::new() };
        if let Err(error) = self.upstream.write(batch).await {
            tracing::debug!(event = "SampleSendError", "{error}");
        }
    }
}

fn points(usage: &Usage) -> Vec<Point> {
    let (disk, network) = ("disk_io_direction", "network_io_direction");
    vec![
        ("process_count", None, usage.processes as f64),
        ("process_cpu_time_seconds_total", None, usage.cpu_seconds),
        ("process_memory_usage_bytes", None, usage.resident_bytes as f64),
        ("process_memory_virtual_bytes", None, usage.virtual_bytes as f64),
        ("process_thread_count", None, usage.threads as f64),
        ("process_open_file_descriptor_count", None, usage.open_files as f64),
        ("process_disk_io_bytes_total", Some((disk, "read")), usage.disk_read_bytes as f64),
        ("process_disk_io_bytes_total", Some((disk, "write")), usage.disk_written_bytes as f64),
        // Linux does not count the network by process: these are of the machine or the container, and are named so.
        ("system_network_io_bytes_total", Some((network, "receive")), usage.network_received_bytes as f64),
        ("system_network_io_bytes_total", Some((network, "transmit")), usage.network_sent_bytes as f64),
    ]
}
