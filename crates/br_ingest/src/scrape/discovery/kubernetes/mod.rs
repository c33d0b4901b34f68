//! Objects of a Kubernetes cluster, followed by list and watch.
//!
//! Own structs over our own HTTP client: docs/adr/0003-kubernetes-by-list-and-watch.md says why.
//! Sources: Kubernetes API concepts ("Efficient detection of changes"), Prometheus' documentation of `kubernetes_sd_config`.

mod access;
mod endpoints;
mod labels;
mod objects;
mod roles;
mod watch;

use super::Report;
use crate::scrape::config::KubernetesSdConfig;
use access::Access;
use br_std::{Error, Result};
use objects::{Endpoints, Ingress, Namespace, Node, Pod, Service, Slice};
use roles::Role;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use watch::{News, Store, follow};

/// Changes that come within this time are told together.
const SETTLE: Duration = Duration::from_millis(250);
/// Between tries to find the API while its configuration cannot be read.
const RETRY: Duration = Duration::from_secs(5);

pub(super) fn check(config: &KubernetesSdConfig) -> Result<()> {
    let role = Role::from_name(&config.role)?;
    access::check(config)?;
    for selector in &config.selectors {
        if !role.kinds(config).iter().any(|kind| kind.name() == selector.role) {
            return Err(Error::fix_request(format!("role {} has no selectors for {:?}", config.role, selector.role)));
        }
    }
    Ok(())
}

/// Follows the cluster until it is dropped.
pub(super) async fn run(config: KubernetesSdConfig, report: Report) {
    let access = loop {
        match Access::find(&config) {
            Ok(access) => break Arc::new(access),
            Err(error) => report.failed(&error),
        }
        tokio::time::sleep(RETRY).await;
    };
    // `check` has refused other roles.
    let Ok(role) = Role::from_name(&config.role) else { return };
    let cluster = Cluster::default();
    let mut watches = JoinSet::new();
    for kind in role.kinds(&config) {
        cluster.start(kind, &config, &access, &mut watches);
    }
    loop {
        cluster.news.changed().await;
        tokio::time::sleep(SETTLE).await;
        let complaints = cluster.news.complaints();
        if cluster.news.is_complete() {
            report.found(role.groups(&cluster, &config), complaints);
        } else {
            for error in &complaints {
                report.failed(error);
            }
        }
    }
}

/// What is known of the objects that matter to a role.
#[derive(Default)]
struct Cluster {
    news: Arc<News>,
    nodes: Arc<Store<Node>>,
    pods: Arc<Store<Pod>>,
    services: Arc<Store<Service>>,
    endpoints: Arc<Store<Endpoints>>,
    slices: Arc<Store<Slice>>,
    ingresses: Arc<Store<Ingress>>,
    namespaces: Arc<Store<Namespace>>,
}

/// A kind of object, with where the API has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Node,
    Pod,
    Service,
    Endpoints,
    Slice,
    Ingress,
    Namespace,
}

impl Kind {
    /// As selectors name it.
    fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Endpoints => "endpoints",
            Self::Slice => "endpointslice",
            Self::Ingress => "ingress",
            Self::Namespace => "namespace",
        }
    }

    fn path(self, namespace: Option<&str>) -> String {
        let (api, objects) = match self {
            Self::Node => ("/api/v1", "nodes"),
            Self::Pod => ("/api/v1", "pods"),
            Self::Service => ("/api/v1", "services"),
            Self::Endpoints => ("/api/v1", "endpoints"),
            Self::Slice => ("/apis/discovery.k8s.io/v1", "endpointslices"),
            Self::Ingress => ("/apis/networking.k8s.io/v1", "ingresses"),
            Self::Namespace => ("/api/v1", "namespaces"),
        };
        match namespace {
            Some(namespace) => format!("{api}/namespaces/{namespace}/{objects}"),
            None => format!("{api}/{objects}"),
        }
    }

    fn is_namespaced(self) -> bool {
        !matches!(self, Self::Node | Self::Namespace)
    }
}

impl Cluster {
    /// Starts to follow one kind, in each of the namespaces.
    fn start(&self, kind: Kind, config: &KubernetesSdConfig, access: &Arc<Access>, watches: &mut JoinSet<()>) {
        let namespaces: Vec<Option<String>> = if kind.is_namespaced() && !access.namespaces.is_empty() {
            access.namespaces.iter().cloned().map(Some).collect()
        } else {
            vec![None]
        };
        let selector = config.selectors.iter().find(|selector| selector.role == kind.name()).cloned().unwrap_or_default();
        for namespace in namespaces {
            let path = kind.path(namespace.as_deref());
            let (access, news, selector) = (access.clone(), self.news.clone(), selector.clone());
            news.expect(&path);
            match kind {
                Kind::Node => watches.spawn(follow(access, path, selector, self.nodes.clone(), news)),
                Kind::Pod => watches.spawn(follow(access, path, selector, self.pods.clone(), news)),
                Kind::Service => watches.spawn(follow(access, path, selector, self.services.clone(), news)),
                Kind::Endpoints => watches.spawn(follow(access, path, selector, self.endpoints.clone(), news)),
                Kind::Slice => watches.spawn(follow(access, path, selector, self.slices.clone(), news)),
                Kind::Ingress => watches.spawn(follow(access, path, selector, self.ingresses.clone(), news)),
                Kind::Namespace => watches.spawn(follow(access, path, selector, self.namespaces.clone(), news)),
            };
        }
    }
}
