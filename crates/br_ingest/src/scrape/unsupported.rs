//! Keys of a Prometheus configuration that are known here and not acted on: the file stays valid, and the start names them.

use br_std::{Error, Result};
use std::collections::BTreeMap;

/// What a configuration holds beside the keys that are acted on.
pub type Rest = BTreeMap<String, serde_norway::Value>;

/// Ways to find targets. A job that has one is scraped without the targets that it would find.
const DISCOVERIES: [&str; 22] = [
    "aws_sd_configs",
    "azure_sd_configs",
    "consul_sd_configs",
    "digitalocean_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "ionos_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "openstack_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
];

const JOB_KEYS: [&str; 2] = ["sample_age_limit", "scrape_failure_log_file"];

const GLOBAL_KEYS: [&str; 1] = ["scrape_failure_log_file"];

/// What is not acted on in a job, in words; an error names a key that Prometheus does not know either.
pub(super) fn of_job(rest: &Rest) -> Result<Vec<String>> {
    let word = |key: &String| {
        if DISCOVERIES.contains(&key.as_str()) {
            return Ok(format!("{key} finds no targets in this version"));
        }
        known(&JOB_KEYS, key)
    };
    rest.keys().map(word).collect()
}

/// The same for the part `global`.
pub(super) fn of_global(rest: &Rest) -> Result<Vec<String>> {
    rest.keys().map(|key| known(&GLOBAL_KEYS, key)).collect()
}

fn known(keys: &[&str], key: &String) -> Result<String> {
    if keys.contains(&key.as_str()) {
        Ok(format!("{key} is read without being acted on"))
    } else {
        Err(Error::fix_request(format!("unknown field `{key}`")))
    }
}
