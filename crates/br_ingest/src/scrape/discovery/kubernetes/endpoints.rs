//! The roles `endpoints` and `endpointslice`: addresses behind services, with what is known of the pods that have them.

use super::Cluster;
use super::labels::{Labels, add_container, add_container_port, add_node, add_pod, containers, of_object, set};
use super::objects::{EndpointAddress, EndpointPort, Endpoints, Pod, Slice, SliceEndpoint, SlicePort, TargetRef};
use super::roles::add_service;
use crate::scrape::discovery::{TargetGroup, host_port, label_name};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn of_endpoints(endpoints: &Endpoints, cluster: &Cluster, with_node: bool) -> TargetGroup {
    let meta = &endpoints.metadata;
    let mut labels = of_object("endpoints", meta, cluster);
    add_service(&mut labels, &meta.namespace, &meta.name, cluster);
    let mut gathered = Gathered { cluster, with_node, targets: Vec::new(), pods: BTreeMap::new() };
    for subset in endpoints.subsets.iter().flatten() {
        for port in &subset.ports {
            let ready = subset.addresses.iter().map(|address| (address, true));
            for (address, is_ready) in ready.chain(subset.not_ready_addresses.iter().map(|address| (address, false))) {
                gathered.add_address(address, port, is_ready);
            }
        }
    }
    TargetGroup { targets: gathered.finish(), labels }
}

pub(super) fn of_slice(slice: &Slice, cluster: &Cluster, with_node: bool) -> TargetGroup {
    let meta = &slice.metadata;
    let mut labels = of_object("endpointslice", meta, cluster);
    set(&mut labels, "endpointslice_address_type", &*slice.address_type);
    if let Some(service) = meta.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/service-name")) {
        add_service(&mut labels, &meta.namespace, service, cluster);
    }
    let mut gathered = Gathered { cluster, with_node, targets: Vec::new(), pods: BTreeMap::new() };
    for port in slice.ports.iter().flatten() {
        for endpoint in slice.endpoints.iter().flatten() {
            for address in &endpoint.addresses {
                gathered.add_slice(address, endpoint, port);
            }
        }
    }
    TargetGroup { targets: gathered.finish(), labels }
}

struct Gathered<'a> {
    cluster: &'a Cluster,
    with_node: bool,
    targets: Vec<Labels>,
    /// Pods behind the addresses, with those of their ports that a service has.
    pods: BTreeMap<String, (Arc<Pod>, Vec<u16>)>,
}

impl Gathered<'_> {
    fn add_address(&mut self, address: &EndpointAddress, port: &EndpointPort, is_ready: bool) {
        let mut target = Labels::from([("__address__".to_owned(), host_port(&address.ip, port.port))]);
        set(&mut target, "endpoint_port_name", &*port.name);
        set(&mut target, "endpoint_port_protocol", &*port.protocol);
        set(&mut target, "endpoint_ready", is_ready.to_string());
        set(&mut target, "endpoint_hostname", &*address.hostname);
        if let Some(reference) = &address.target_ref {
            set(&mut target, "endpoint_address_target_kind", &*reference.kind);
            set(&mut target, "endpoint_address_target_name", &*reference.name);
        }
        if let Some(node) = &address.node_name {
            set(&mut target, "endpoint_node_name", &**node);
        }
        self.push(target, address.node_name.as_deref(), address.target_ref.as_ref(), Some(port.port));
    }

    fn add_slice(&mut self, address: &str, endpoint: &SliceEndpoint, port: &SlicePort) {
        let full = port.port.map_or_else(|| address.to_owned(), |port| host_port(address, port));
        let mut target = Labels::from([("__address__".to_owned(), full)]);
        let conditions = &endpoint.conditions;
        let reference = endpoint.target_ref.as_ref();
        for (name, value) in [
            ("port_name", port.name.clone()),
            ("port_protocol", port.protocol.clone()),
            ("port", port.port.map(|port| port.to_string())),
            ("port_app_protocol", port.app_protocol.clone()),
            ("endpoint_conditions_ready", conditions.ready.map(|is| is.to_string())),
            ("endpoint_conditions_serving", conditions.serving.map(|is| is.to_string())),
            ("endpoint_conditions_terminating", conditions.terminating.map(|is| is.to_string())),
            ("endpoint_hostname", endpoint.hostname.clone()),
            ("endpoint_node_name", endpoint.node_name.clone()),
            ("endpoint_zone", endpoint.zone.clone()),
            ("address_target_kind", reference.map(|reference| reference.kind.clone())),
            ("address_target_name", reference.map(|reference| reference.name.clone())),
        ] {
            if let Some(value) = value {
                set(&mut target, &format!("endpointslice_{name}"), value);
            }
        }
        for (name, value) in endpoint.deprecated_topology.iter().flatten() {
            let prefix = "__meta_kubernetes_endpointslice_endpoint_topology_";
            target.insert(label_name(prefix, name), value.clone());
            target.insert(label_name(&format!("{prefix}present_"), name), "true".into());
        }
        self.push(target, endpoint.node_name.as_deref(), reference, port.port);
    }

    fn push(&mut self, mut target: Labels, node: Option<&str>, reference: Option<&TargetRef>, port: Option<u16>) {
        if self.with_node {
            let of_reference = reference.filter(|reference| reference.kind == "Node").map(|reference| reference.name.as_str());
            if let Some(node) = node.or(of_reference).and_then(|name| self.cluster.nodes.get("", name)) {
                add_node(&mut target, &node);
            }
        }
        let reference = reference.filter(|reference| reference.kind == "Pod");
        if let Some(pod) = reference.and_then(|reference| self.cluster.pods.get(&reference.namespace, &reference.name)) {
            add_pod(&mut target, &pod);
            for (container, is_init) in containers(&pod) {
                if let Some(port) = container.ports.iter().find(|candidate| Some(candidate.container_port) == port) {
                    add_container(&mut target, container, is_init);
                    add_container_port(&mut target, port);
                }
            }
            let (_, seen) = self.pods.entry(pod.metadata.key()).or_insert((pod, Vec::new()));
            seen.extend(port);
        }
        self.targets.push(target);
    }

    /// Also the ports of the pods that no service has.
    fn finish(mut self) -> Vec<Labels> {
        for (pod, seen) in self.pods.values().filter(|(pod, _)| !pod.status.pod_ip.is_empty()) {
            for (container, is_init) in containers(pod) {
                for port in container.ports.iter().filter(|port| !seen.contains(&port.container_port)) {
                    let mut target =
                        Labels::from([("__address__".to_owned(), host_port(&pod.status.pod_ip, port.container_port))]);
                    add_pod(&mut target, pod);
                    add_container(&mut target, container, is_init);
                    add_container_port(&mut target, port);
                    self.targets.push(target);
                }
            }
        }
        self.targets
    }
}
