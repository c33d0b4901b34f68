//! What each role makes targets of.

use super::labels::{Labels, add_container, add_container_port, add_meta, add_node, add_pod, containers, of_object, set};
use super::objects::{Ingress, IngressRule, Node, Pod, Service};
use super::{Cluster, Kind, endpoints};
use crate::scrape::config::KubernetesSdConfig;
use crate::scrape::discovery::{TargetGroup, host_port, label_name};
use br_std::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Node,
    Pod,
    Service,
    Endpoints,
    Slice,
    Ingress,
}

impl Role {
    pub(super) fn from_name(name: &str) -> Result<Self> {
        Ok(match name {
            "node" => Self::Node,
            "pod" => Self::Pod,
            "service" => Self::Service,
            "endpoints" => Self::Endpoints,
            "endpointslice" => Self::Slice,
            "ingress" => Self::Ingress,
            _ => {
                let roles = "node, pod, service, endpoints, endpointslice, ingress";
                return Err(Error::fix_request(format!("role must be one of {roles}, not {name:?}")));
            }
        })
    }

    /// What is followed for it.
    pub(super) fn kinds(self, config: &KubernetesSdConfig) -> Vec<Kind> {
        let mut kinds = match self {
            Self::Node => vec![Kind::Node],
            Self::Pod => vec![Kind::Pod],
            Self::Service => vec![Kind::Service],
            Self::Endpoints => vec![Kind::Endpoints, Kind::Service, Kind::Pod],
            Self::Slice => vec![Kind::Slice, Kind::Service, Kind::Pod],
            Self::Ingress => vec![Kind::Ingress],
        };
        if config.attach_metadata.node && kinds.contains(&Kind::Pod) {
            kinds.push(Kind::Node);
        }
        if config.attach_metadata.namespace && self != Self::Node {
            kinds.push(Kind::Namespace);
        }
        kinds
    }

    pub(super) fn groups(self, cluster: &Cluster, config: &KubernetesSdConfig) -> Vec<TargetGroup> {
        let with_node = config.attach_metadata.node;
        match self {
            Self::Node => cluster.nodes.all().iter().filter_map(|node| of_node(node)).collect(),
            Self::Pod => cluster.pods.all().iter().map(|pod| of_pod(pod, cluster, with_node)).collect(),
            Self::Service => cluster.services.all().iter().map(|service| of_service(service, cluster)).collect(),
            Self::Ingress => cluster.ingresses.all().iter().map(|ingress| of_ingress(ingress, cluster)).collect(),
            Self::Endpoints => {
                cluster.endpoints.all().iter().map(|found| endpoints::of_endpoints(found, cluster, with_node)).collect()
            }
            Self::Slice => cluster.slices.all().iter().map(|slice| endpoints::of_slice(slice, cluster, with_node)).collect(),
        }
    }
}

/// Which of a node's addresses is scraped.
const NODE_ADDRESSES: [&str; 6] = ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];

fn of_node(node: &Node) -> Option<TargetGroup> {
    let first = |kind: &str| node.status.addresses.iter().find(|address| address.kind == kind);
    let address = NODE_ADDRESSES.into_iter().find_map(first)?;
    let port = node.status.daemon_endpoints.kubelet_endpoint.port;
    let mut target = Labels::from([
        ("__address__".to_owned(), host_port(&address.address, port)),
        ("instance".to_owned(), node.metadata.name.clone()),
    ]);
    for address in node.status.addresses.iter().rev() {
        target.insert(label_name("__meta_kubernetes_node_address_", &address.kind), address.address.clone());
    }
    let mut labels = Labels::new();
    add_node(&mut labels, node);
    Some(TargetGroup { targets: vec![target], labels })
}

/// One target for each port of each container. A pod without an address is not yet, or no longer, one.
fn of_pod(pod: &Pod, cluster: &Cluster, with_node: bool) -> TargetGroup {
    let address = &pod.status.pod_ip;
    if address.is_empty() {
        return TargetGroup::default();
    }
    let mut labels = of_object("pod", &pod.metadata, cluster);
    add_pod(&mut labels, pod);
    if let Some(node) = cluster.nodes.get("", &pod.spec.node_name).filter(|_| with_node) {
        add_node(&mut labels, &node);
    }
    let mut targets = Vec::new();
    for (container, is_init) in containers(pod) {
        let statuses = if is_init { &pod.status.init_container_statuses } else { &pod.status.container_statuses };
        let id = statuses.iter().find(|status| status.name == container.name).map_or("", |status| &status.id);
        let mut shared = Labels::new();
        add_container(&mut shared, container, is_init);
        set(&mut shared, "pod_container_id", id);
        if container.ports.is_empty() {
            shared.insert("__address__".into(), address.clone());
            targets.push(shared);
            continue;
        }
        for port in &container.ports {
            let mut target = shared.clone();
            target.insert("__address__".into(), host_port(address, port.container_port));
            add_container_port(&mut target, port);
            targets.push(target);
        }
    }
    TargetGroup { targets, labels }
}

fn of_service(service: &Service, cluster: &Cluster) -> TargetGroup {
    let (meta, spec) = (&service.metadata, &service.spec);
    let target = |port: &super::objects::ServicePort| {
        let host = format!("{}.{}.svc", meta.name, meta.namespace);
        let mut target = Labels::from([("__address__".to_owned(), host_port(&host, port.port))]);
        set(&mut target, "service_port_name", &*port.name);
        set(&mut target, "service_port_number", port.port.to_string());
        set(&mut target, "service_port_protocol", &*port.protocol);
        set(&mut target, "service_type", &*spec.kind);
        if spec.kind == "ExternalName" {
            set(&mut target, "service_external_name", &*spec.external_name);
        } else {
            set(&mut target, "service_cluster_ip", &*spec.cluster_ip);
        }
        if spec.kind == "LoadBalancer" {
            set(&mut target, "service_loadbalancer_ip", &*spec.load_balancer_ip);
        }
        target
    };
    TargetGroup { targets: spec.ports.iter().map(target).collect(), labels: of_object("service", meta, cluster) }
}

/// One target for each path of each rule.
fn of_ingress(ingress: &Ingress, cluster: &Cluster) -> TargetGroup {
    let mut labels = of_object("ingress", &ingress.metadata, cluster);
    if let Some(class) = &ingress.spec.ingress_class_name {
        set(&mut labels, "ingress_class_name", &**class);
    }
    let mut targets = Vec::new();
    for rule in &ingress.spec.rules {
        let patterns = ingress.spec.tls.iter().flat_map(|tls| &tls.hosts);
        let scheme = if patterns.into_iter().any(|pattern| covers(pattern, &rule.host)) { "https" } else { "http" };
        for path in paths(rule) {
            let mut target = Labels::from([("__address__".to_owned(), rule.host.clone())]);
            set(&mut target, "ingress_scheme", scheme);
            set(&mut target, "ingress_host", &*rule.host);
            set(&mut target, "ingress_path", path);
            targets.push(target);
        }
    }
    TargetGroup { targets, labels }
}

fn paths(rule: &IngressRule) -> Vec<&str> {
    match &rule.http {
        None => vec!["/"],
        Some(http) => http.paths.iter().map(|path| if path.path.is_empty() { "/" } else { path.path.as_str() }).collect(),
    }
}

/// Whether a host of a certificate, which may begin with `*.`, is the host of a rule.
fn covers(pattern: &str, host: &str) -> bool {
    let below = |host: &str| host.split_once('.').map(|(_, rest)| rest.to_owned());
    pattern == host || pattern.strip_prefix("*.").is_some_and(|parent| below(host).as_deref() == Some(parent))
}

/// The labels of a service are those of the endpoints that it made.
pub(super) fn add_service(labels: &mut Labels, namespace: &str, name: &str, cluster: &Cluster) {
    if let Some(service) = cluster.services.get(namespace, name) {
        add_meta(labels, "service", &service.metadata);
    }
}
