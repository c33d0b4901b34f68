//! The parts of Kubernetes' objects from which labels are made. What is absent is empty.

use serde::Deserialize;
use std::collections::BTreeMap;

/// What all objects have.
pub(super) trait Object: serde::de::DeserializeOwned + Send + Sync + 'static {
    fn meta(&self) -> &Meta;
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    pub(super) owner_references: Vec<Owner>,
}

impl Meta {
    /// Unique among objects of a kind.
    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Owner {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) controller: bool,
}

/// Declares objects, and that they are such.
macro_rules! objects {
    ($($name:ident { $($field:ident: $type:ty,)* })*) => {
        $(
            #[derive(Debug, Default, Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            pub(super) struct $name {
                pub(super) metadata: Meta,
                $(pub(super) $field: $type,)*
            }

            impl Object for $name {
                fn meta(&self) -> &Meta {
                    &self.metadata
                }
            }
        )*
    };
}

/// Declares parts of objects.
macro_rules! parts {
    ($($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            #[allow(clippy::struct_field_names, reason = "the names are Kubernetes'")]
            #[derive(Debug, Default, Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            pub(super) struct $name {
                $($(#[$attribute])* pub(super) $field: $type,)*
            }
        )*
    };
}

objects! {
    Namespace {}
    Node { spec: NodeSpec, status: NodeStatus, }
    Pod { spec: PodSpec, status: PodStatus, }
    Service { spec: ServiceSpec, }
    Endpoints { subsets: Option<Vec<Subset>>, }
    Slice { address_type: String, endpoints: Option<Vec<SliceEndpoint>>, ports: Option<Vec<SlicePort>>, }
    Ingress { spec: IngressSpec, }
}

parts! {
    NodeStatus { addresses: Vec<NodeAddress>, daemon_endpoints: DaemonEndpoints, }
    DaemonEndpoints { kubelet_endpoint: KubeletEndpoint, }
    PodSpec { node_name: String, containers: Vec<Container>, init_containers: Vec<Container>, }
    Container { name: String, image: String, ports: Vec<ContainerPort>, }
    ContainerPort { name: String, container_port: u16, #[serde(default = "tcp")] protocol: String, }
    Condition { #[serde(rename = "type")] kind: String, status: String, }
    ServiceSpec {
        #[serde(rename = "type")] kind: String,
        #[serde(rename = "clusterIP")] cluster_ip: String,
        #[serde(rename = "loadBalancerIP")] load_balancer_ip: String,
        external_name: String,
        ports: Vec<ServicePort>,
    }
    ServicePort { name: String, port: u16, #[serde(default = "tcp")] protocol: String, }
    Subset { addresses: Vec<EndpointAddress>, not_ready_addresses: Vec<EndpointAddress>, ports: Vec<EndpointPort>, }
    EndpointAddress { ip: String, hostname: String, node_name: Option<String>, target_ref: Option<TargetRef>, }
    EndpointPort { name: String, port: u16, #[serde(default = "tcp")] protocol: String, }
    TargetRef { kind: String, name: String, namespace: String, }
    SliceEndpoint {
        addresses: Vec<String>,
        conditions: SliceConditions,
        hostname: Option<String>,
        node_name: Option<String>,
        zone: Option<String>,
        target_ref: Option<TargetRef>,
        deprecated_topology: Option<BTreeMap<String, String>>,
    }
    SliceConditions { ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>, }
    SlicePort { name: Option<String>, port: Option<u16>, protocol: Option<String>, app_protocol: Option<String>, }
    IngressSpec { ingress_class_name: Option<String>, tls: Vec<IngressTls>, rules: Vec<IngressRule>, }
    IngressTls { hosts: Vec<String>, }
    IngressRule { host: String, http: Option<IngressPaths>, }
    IngressPaths { paths: Vec<IngressPath>, }
    IngressPath { path: String, }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeSpec {
    #[serde(rename = "providerID")]
    pub(super) provider_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeAddress {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) address: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KubeletEndpoint {
    #[serde(rename = "Port")]
    pub(super) port: u16,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
    #[serde(rename = "podIP")]
    pub(super) pod_ip: String,
    #[serde(rename = "hostIP")]
    pub(super) host_ip: String,
    pub(super) phase: String,
    pub(super) conditions: Vec<Condition>,
    pub(super) container_statuses: Vec<ContainerStatus>,
    pub(super) init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ContainerStatus {
    pub(super) name: String,
    #[serde(rename = "containerID")]
    pub(super) id: String,
}

fn tcp() -> String {
    "TCP".into()
}
