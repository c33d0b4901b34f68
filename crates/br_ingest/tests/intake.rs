//! The way in as a whole: what requests hold of the room that they share, and for how long.

use br_env::real;
use br_env::sim::Sim;
use br_ingest::decode::DecodeLimits;
use br_ingest::decoded::Decoded;
use br_ingest::lane::{Applier, LaneStart};
use br_ingest::{Incoming, Intake};
use br_journal::{Journal, Options, Protocol};
use br_model::TenantId;
use br_std::{Nanos, Result};
use br_storage::JournalPosition;
use br_tsdb::{Tsdb, TsdbOptions};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use object_store::memory::InMemory;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point,
};
use prost::Message as _;
use prost::encoding::WireType;
use std::io::Write as _;
use std::sync::Arc;

/// A store that takes nothing, now or ever.
struct Stuck;

impl Applier for Stuck {
    fn wants(&self, _protocol: Protocol) -> bool {
        true
    }

    fn apply(&mut self, _: TenantId, _: JournalPosition, _: Nanos, _: &Arc<Decoded>) {}

    fn make_room(&mut self) -> bool {
        false
    }

    fn seal(&mut self, _: JournalPosition) -> Result<()> {
        Ok(())
    }
}

struct Case {
    intake: Intake,
    _folder: tempfile::TempDir,
}

impl Case {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let env = real::env(folder.path()).expect("env");
        let options = Options { ballast_bytes: 0, free_bytes_min: 0, ..Options::default() };
        let (journal, _) = Journal::open(env.clone(), options).expect("journal");
        let store = Tsdb::open(Vec::new(), Arc::new(InMemory::new()), Sim::new(1).rng, TsdbOptions::default());
        let lanes = [0; 3].map(|_| LaneStart { applier: Box::new(Stuck), progress: JournalPosition(0) });
        let intake =
            Intake::start(Arc::new(journal), env.clock, DecodeLimits::default(), Arc::new(store), lanes).expect("starts");
        while !intake.is_caught_up() {
            tokio::task::yield_now().await;
        }
        Self { intake, _folder: folder }
    }

    async fn metrics(&self, encoding: &str, body: Vec<u8>) -> usize {
        let incoming = Incoming {
            tenant: TenantId(1),
            protocol: Protocol::OTLP_METRICS,
            content_type: "application/x-protobuf".into(),
            content_encoding: encoding.into(),
            context: Vec::new(),
            body: body.into(),
        };
        self.intake.accept(incoming).await.expect("accepted").samples
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        self.intake.close();
    }
}

/// A request of one sample, with a field that nobody knows: it hardly packs, and is skipped.
fn request() -> Vec<u8> {
    const WORDS: usize = 100_000;
    let point = NumberDataPoint { time_unix_nano: 1, value: Some(number_data_point::Value::AsDouble(1.0)), ..Default::default() };
    let gauge = Gauge { data_points: vec![point] };
    let metric = Metric { name: "m".into(), data: Some(metric::Data::Gauge(gauge)), ..Default::default() };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..Default::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..Default::default() }];
    let mut request = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
    prost::encoding::encode_key(1000, WireType::LengthDelimited, &mut request);
    prost::encoding::encode_varint(8 * WORDS as u64, &mut request);
    let mut state: u128 = 1;
    for _ in 0..WORDS {
        state = state.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
        request.extend_from_slice(&state.to_be_bytes()[..8]);
    }
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_lanes_have_takes_no_room() {
    let case = Case::new().await;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&request()).expect("in memory");
    let body = encoder.finish().expect("in memory");
    assert!(body.len() > (64 << 20) / 100, "{}: each of these has all of the room to itself", body.len());
    let are_kept = async {
        while case.intake.journal().durable_position() < JournalPosition(2) {
            tokio::task::yield_now().await;
        }
    };
    let [one, other] = [0; 2].map(|_| case.metrics("deflate", body.clone()));
    tokio::select! {
        () = are_kept => {}
        _ = one => panic!("the first was answered before the second was kept"),
        _ = other => panic!("the second was answered before the first was kept"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_larger_than_it_says_is_weighed_again() {
    let case = Case::new().await;
    let request = request();
    let (start, end) = request.split_at(request.len() - 100);
    let parts = [start, end].map(|part| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(part).expect("in memory");
        encoder.finish().expect("in memory")
    });
    assert_eq!(case.metrics("gzip", parts.concat()).await, 1);
}
