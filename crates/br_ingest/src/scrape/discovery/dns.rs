//! Records of DNS names.
//!
//! Source: Prometheus' documentation of `dns_sd_config`.

use super::{Found, Source, TargetGroup, host_port};
use crate::scrape::config::DnsSdConfig;
use br_std::{Error, Result};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) fn check(config: &DnsSdConfig) -> Result<()> {
    if config.names.is_empty() {
        return Err(Error::fix_request("names is empty"));
    }
    let kind = record_type(&config.kind)?;
    if kind != RecordType::SRV && config.port.is_none_or(|port| port == 0) {
        return Err(Error::fix_request(format!("a port is needed for records of type {kind}")));
    }
    Ok(())
}

fn record_type(kind: &str) -> Result<RecordType> {
    Ok(match kind.to_ascii_uppercase().as_str() {
        "SRV" => RecordType::SRV,
        "A" => RecordType::A,
        "AAAA" => RecordType::AAAA,
        "MX" => RecordType::MX,
        "NS" => RecordType::NS,
        _ => return Err(Error::fix_request(format!("type must be one of SRV, A, AAAA, MX, NS, not {kind:?}"))),
    })
}

pub(super) struct Dns {
    config: DnsSdConfig,
    /// What each name had at its last good look.
    known: BTreeMap<String, TargetGroup>,
}

impl Dns {
    pub(super) fn new(config: DnsSdConfig) -> Self {
        Self { config, known: BTreeMap::new() }
    }

    async fn look_with(&mut self, resolver: &TokioResolver) -> Result<Found> {
        let kind = record_type(&self.config.kind)?;
        let looks = self.config.names.iter().map(|name| look_up(resolver, name, kind, self.config.port.unwrap_or(0)));
        let mut complaints = Vec::new();
        for (name, found) in self.config.names.iter().zip(futures::future::join_all(looks).await) {
            match found {
                Ok(group) => {
                    self.known.insert(name.clone(), group);
                }
                Err(error) => complaints.push(error),
            }
        }
        Ok(Found { groups: self.known.values().cloned().collect(), complaints })
    }
}

impl Source for Dns {
    /// `/etc/resolv.conf` is read at each look: it may change while the server runs.
    async fn look(&mut self) -> Result<Found> {
        let system = |error| Error::retry(format!("/etc/resolv.conf: {error}"));
        let mut builder = TokioResolver::builder_tokio().map_err(system)?;
        let options = builder.options_mut();
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let resolver = builder.build().map_err(system)?;
        self.look_with(&resolver).await
    }

    fn interval(&self) -> Duration {
        self.config.refresh_interval.0
    }
}

/// A name that does not exist, or has no such records, has no targets: that is no failure.
async fn look_up(resolver: &TokioResolver, name: &str, kind: RecordType, port: u16) -> Result<TargetGroup> {
    let mut group = TargetGroup::default();
    group.labels.insert("__meta_dns_name".into(), name.to_owned());
    let answer = match resolver.lookup(name, kind).await {
        Ok(answer) => answer,
        Err(error) if error.is_no_records_found() => return Ok(group),
        Err(error) => return Err(Error::retry(format!("{kind} {name}: {error}"))),
    };
    let mut add = |host: &str, port: u16, labels: &[(&str, String)]| {
        let mut target: BTreeMap<String, String> =
            labels.iter().map(|(name, value)| (format!("__meta_dns_{name}"), value.clone())).collect();
        target.insert("__address__".into(), host_port(host, port));
        group.targets.push(target);
    };
    for record in answer.answers() {
        match &record.data {
            RData::SRV(record) => {
                let labels = [("srv_record_target", record.target.to_string()), ("srv_record_port", record.port.to_string())];
                add(host(&record.target).as_str(), record.port, &labels);
            }
            RData::MX(record) => {
                add(host(&record.exchange).as_str(), port, &[("mx_record_target", record.exchange.to_string())]);
            }
            RData::NS(record) => add(host(&record.0).as_str(), port, &[("ns_record_target", record.0.to_string())]),
            RData::A(record) => add(&record.0.to_string(), port, &[]),
            RData::AAAA(record) => add(&record.0.to_string(), port, &[]),
            // The names on the way, and signatures.
            _ => {}
        }
    }
    group.targets.sort();
    Ok(group)
}

/// Without the dot that ends a full name.
fn host(name: &Name) -> String {
    name.to_string().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::super::values::PromDuration;
    use super::*;
    use hickory_resolver::config::{NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use std::net::{IpAddr, Ipv4Addr};
    use tokio::net::UdpSocket;

    /// A resolver that asks a server on loopback which answers every question of a type with the records of that type.
    async fn resolver(records: Vec<(u16, Vec<u8>)>) -> TokioResolver {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
        let port = socket.local_addr().expect("bound").port();
        tokio::spawn(async move {
            let mut buffer = [0u8; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let _ = socket.send_to(&answer(&buffer[..length], &records), from).await;
            }
        });
        let mut server = NameServerConfig::udp(IpAddr::V4(Ipv4Addr::LOCALHOST));
        server.connections[0].port = port;
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().cache_size = 0;
        builder.options_mut().attempts = 0;
        builder.build().expect("a server")
    }

    /// RFC 1035, 4: header, question, and answers whose names point to that of the question. `nx.` does not exist, `broken.` fails.
    fn answer(question: &[u8], records: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut end = 12;
        while question[end] != 0 {
            end += 1 + usize::from(question[end]);
        }
        let name = &question[13..end];
        let code = if name.starts_with(b"nx") {
            3
        } else if name.starts_with(b"broken") {
            2
        } else {
            0
        };
        let kind = u16::from_be_bytes([question[end + 1], question[end + 2]]);
        let found: Vec<_> = records.iter().filter(|(of, _)| *of == kind && code == 0).collect();
        let mut out = vec![question[0], question[1], 0x81, 0x80 | code, 0, 1, 0, found.len() as u8, 0, 0, 0, 0];
        out.extend_from_slice(&question[12..end + 5]);
        for (kind, data) in found {
            out.extend_from_slice(&[0xc0, 12]);
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&[0, 1, 0, 0, 0, 30]);
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    fn config(kind: &str, names: &[&str], port: Option<u16>) -> DnsSdConfig {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let refresh_interval = PromDuration(Duration::from_secs(1));
        DnsSdConfig { names, kind: kind.into(), port, refresh_interval }
    }

    #[tokio::test]
    async fn records_of_each_type() {
        let records = vec![
            (1, vec![10, 0, 0, 1]),
            (1, vec![10, 0, 0, 2]),
            (28, vec![0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            (33, b"\x00\x01\x00\x02\x23\x8c\x03web\x04shop\x00".to_vec()),
            (15, b"\x00\x0a\x04mail\x04shop\x00".to_vec()),
            (2, b"\x02ns\x04shop\x00".to_vec()),
        ];
        let resolver = resolver(records).await;
        for (kind, expect, label) in [
            ("A", "10.0.0.1:80,10.0.0.2:80", None),
            ("AAAA", "[fd00::1]:80", None),
            ("SRV", "web.shop:9100", Some(("__meta_dns_srv_record_target", "web.shop."))),
            ("MX", "mail.shop:80", Some(("__meta_dns_mx_record_target", "mail.shop."))),
            ("NS", "ns.shop:80", Some(("__meta_dns_ns_record_target", "ns.shop."))),
        ] {
            let found = Dns::new(config(kind, &["web.shop."], Some(80))).look_with(&resolver).await.expect(kind);
            assert!(found.complaints.is_empty(), "{kind}: {:?}", found.complaints);
            let targets = &found.groups[0].targets;
            let addresses: Vec<&str> = targets.iter().map(|target| target["__address__"].as_str()).collect();
            assert_eq!(addresses.join(","), expect, "{kind}");
            assert_eq!(found.groups[0].labels["__meta_dns_name"], "web.shop.");
            if let Some((name, value)) = label {
                assert_eq!(targets[0][name], value);
            }
        }
    }

    #[tokio::test]
    async fn a_name_that_is_gone_has_no_targets_and_one_that_fails_keeps_its_own() {
        let resolver = resolver(vec![(1, vec![10, 0, 0, 1])]).await;
        let mut dns = Dns::new(config("A", &["nx.", "broken."], Some(80)));
        let kept = TargetGroup::of_addresses(&["10.9.9.9:80".into()], &BTreeMap::new());
        dns.known.insert("broken.".into(), kept.clone());
        dns.known.insert("nx.".into(), kept.clone());
        let found = dns.look_with(&resolver).await.expect("partly");
        assert_eq!(found.groups[0], kept);
        assert!(found.groups[1].targets.is_empty());
        assert_eq!(found.complaints.len(), 1);
        assert!(found.complaints[0].to_string().starts_with("A broken.: "), "{:?}", found.complaints);
    }
}
