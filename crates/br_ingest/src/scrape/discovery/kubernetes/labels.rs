//! Labels of objects that more than one role has.

use super::Cluster;
use super::objects::{Container, ContainerPort, Meta, Node, Pod};
use crate::scrape::discovery::label_name;
use std::collections::BTreeMap;

pub(super) type Labels = BTreeMap<String, String>;

const META: &str = "__meta_kubernetes_";

/// Labels with Kubernetes' prefix.
pub(super) fn set(labels: &mut Labels, name: &str, value: impl Into<String>) {
    labels.insert(format!("{META}{name}"), value.into());
}

/// The name of an object, its labels and its annotations.
pub(super) fn add_meta(labels: &mut Labels, kind: &str, meta: &Meta) {
    set(labels, &format!("{kind}_name"), &*meta.name);
    add_texts(labels, kind, meta);
}

fn add_texts(labels: &mut Labels, kind: &str, meta: &Meta) {
    for (what, texts) in [("label", &meta.labels), ("annotation", &meta.annotations)] {
        for (name, value) in texts.iter().flatten() {
            labels.insert(label_name(&format!("{META}{kind}_{what}_"), name), value.clone());
            labels.insert(label_name(&format!("{META}{kind}_{what}present_"), name), "true".into());
        }
    }
}

/// What the targets of an object in a namespace share.
pub(super) fn of_object(kind: &str, meta: &Meta, cluster: &Cluster) -> Labels {
    let mut labels = Labels::new();
    set(&mut labels, "namespace", &*meta.namespace);
    // The store is empty where nobody asked for labels of namespaces.
    if let Some(namespace) = cluster.namespaces.get("", &meta.namespace) {
        add_texts(&mut labels, "namespace", &namespace.metadata);
    }
    add_meta(&mut labels, kind, meta);
    labels
}

pub(super) fn add_node(labels: &mut Labels, node: &Node) {
    set(labels, "node_provider_id", &*node.spec.provider_id);
    add_meta(labels, "node", &node.metadata);
}

/// What all targets of a pod share, but for its namespace.
pub(super) fn add_pod(labels: &mut Labels, pod: &Pod) {
    let status = &pod.status;
    let ready = status.conditions.iter().find(|condition| condition.kind == "Ready");
    set(labels, "pod_ip", &*status.pod_ip);
    set(labels, "pod_ready", ready.map_or_else(|| "unknown".into(), |condition| condition.status.to_lowercase()));
    set(labels, "pod_phase", &*status.phase);
    set(labels, "pod_node_name", &*pod.spec.node_name);
    set(labels, "pod_host_ip", &*status.host_ip);
    set(labels, "pod_uid", &*pod.metadata.uid);
    add_meta(labels, "pod", &pod.metadata);
    if let Some(owner) = pod.metadata.owner_references.iter().find(|owner| owner.controller) {
        set(labels, "pod_controller_kind", &*owner.kind);
        set(labels, "pod_controller_name", &*owner.name);
    }
}

/// The containers of a pod; those that only prepare it say so.
pub(super) fn containers(pod: &Pod) -> impl Iterator<Item = (&Container, bool)> {
    let usual = pod.spec.containers.iter().map(|container| (container, false));
    usual.chain(pod.spec.init_containers.iter().map(|container| (container, true)))
}

pub(super) fn add_container(labels: &mut Labels, container: &Container, is_init: bool) {
    set(labels, "pod_container_name", &*container.name);
    set(labels, "pod_container_image", &*container.image);
    set(labels, "pod_container_init", is_init.to_string());
}

pub(super) fn add_container_port(labels: &mut Labels, port: &ContainerPort) {
    set(labels, "pod_container_port_name", &*port.name);
    set(labels, "pod_container_port_number", port.container_port.to_string());
    set(labels, "pod_container_port_protocol", &*port.protocol);
}
