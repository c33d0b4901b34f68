//! `meta.json`: what a block says of itself.

use crate::{Result, WireError};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockMeta {
    pub ulid: String,
    /// Included.
    pub min_time: i64,
    /// Not included.
    pub max_time: i64,
    pub version: u32,
    #[serde(default)]
    pub stats: BlockMetaStats,
    /// Of blocks that Thanos or Mimir keep.
    #[serde(default)]
    pub thanos: ThanosMeta,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockMetaStats {
    pub num_samples: u64,
    pub num_series: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ThanosMeta {
    /// External labels, which the series of the block do not carry.
    pub labels: BTreeMap<String, String>,
    pub downsample: Downsample,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Downsample {
    /// In milliseconds; 0 for samples as they came.
    pub resolution: i64,
}

pub fn parse(bytes: &[u8]) -> Result<BlockMeta> {
    let meta: BlockMeta = serde_json::from_slice(bytes).map_err(WireError::malformed)?;
    if meta.version != 1 {
        return Err(WireError::Unsupported(format!("version {} of a block; version 1 is read", meta.version)));
    }
    if meta.min_time > meta.max_time {
        return Err(WireError::malformed("the block ends before it begins"));
    }
    Ok(meta)
}
