//! Whose lines a file has: what its path, and a container's description beside it, say of the sender.

use super::chunk::Wrapping;
use super::config::FileSource;
use super::disk;
use br_model::{Attributes, Resource};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Labels of a container that are kept, and how long each may be.
const LABELS_MAX: usize = 32;
const LABEL_BYTES_MAX: usize = 256;
/// Docker's description of a container.
const DESCRIPTION_BYTES_MAX: u64 = 4 << 20;

/// The resource of a file's records. What the configuration says comes first, and is not said again.
pub(super) fn resource(source: &FileSource, path: &Path, wrapping: Wrapping, host: &str) -> Arc<Resource> {
    let mut attributes = Attributes::default();
    let told = match wrapping {
        Wrapping::None => Told { service: stem(path), pairs: vec![("log.file.path".to_owned(), path.display().to_string())] },
        Wrapping::Docker => docker(path).or_else(|| kubernetes(path)).unwrap_or_default(),
        Wrapping::Cri => kubernetes(path).unwrap_or_default(),
    };
    let service = source.service.clone().or(told.service).or_else(|| stem(path));
    let of_host = (!host.is_empty()).then(|| ("host.name".to_owned(), host.to_owned()));
    let service = service.map(|service| ("service.name".to_owned(), service));
    for (key, value) in service.into_iter().chain(source.labels.iter().cloned()).chain(told.pairs).chain(of_host) {
        if attributes.get(&key).is_none() {
            attributes.push(key, value);
        }
    }
    Arc::new(Resource { attributes })
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    service: Option<String>,
    pairs: Vec<(String, String)>,
}

/// `web` for `/var/log/web.log` and `/var/log/web.log.1`.
fn stem(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy();
    let stem = name.split('.').find(|part| !part.is_empty())?;
    Some(stem.to_owned())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Container {
    name: String,
    config: ContainerConfig,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ContainerConfig {
    image: String,
    labels: Option<BTreeMap<String, String>>,
}

/// Labels that name the service, the first that is there.
const SERVICE_LABELS: [&str; 3] = ["com.docker.compose.service", "com.docker.swarm.service.name", "service"];

/// `/var/lib/docker/containers/ID/ID-json.log`, with `config.v2.json` beside it.
fn docker(path: &Path) -> Option<Told> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = real.parent()?;
    let id = folder.file_name()?.to_str()?;
    let is_id = id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id {
        return None;
    }
    let mut pairs = vec![("container.id".to_owned(), id.to_owned())];
    let description = disk::read_small(&folder.join("config.v2.json"), DESCRIPTION_BYTES_MAX);
    let Some(container) = description.and_then(|bytes| serde_json::from_slice::<Container>(&bytes).ok()) else {
        return Some(Told { service: Some(id[..12].to_owned()), pairs });
    };
    let name = container.name.trim_start_matches('/').to_owned();
    let labels = container.config.labels.unwrap_or_default();
    let service = SERVICE_LABELS.iter().find_map(|label| labels.get(*label).filter(|service| !service.is_empty()));
    let service = service.cloned().or_else(|| Some(name.clone()).filter(|name| !name.is_empty()));
    pairs.push(("container.name".to_owned(), name));
    pairs.push(("container.image.name".to_owned(), container.config.image));
    pairs.retain(|(_, value)| !value.is_empty());
    // What compose says of its own files and hashes tells nobody anything.
    let is_noise = |key: &str| {
        let of_compose = key.strip_prefix("com.docker.compose.");
        of_compose.is_some_and(|rest| !matches!(rest, "project" | "service")) || key.starts_with("desktop.docker.")
    };
    let kept = labels.into_iter().filter(|(key, value)| !is_noise(key) && key.len().max(value.len()) <= LABEL_BYTES_MAX);
    pairs.extend(kept.take(LABELS_MAX).map(|(key, value)| (format!("container.label.{key}"), value)));
    Some(Told { service: service.or_else(|| Some(id[..12].to_owned())), pairs })
}

/// `/var/log/pods/NAMESPACE_POD_UID/CONTAINER/N.log`, or `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`.
fn kubernetes(path: &Path) -> Option<Told> {
    let of = |key: &str, value: &str| (format!("k8s.{key}"), value.to_owned());
    let name = path.file_name()?.to_str()?;
    let container = path.parent()?.file_name()?.to_str()?;
    let pod = path.parent()?.parent().and_then(|folder| folder.file_name()).and_then(|name| name.to_str());
    let parts: Vec<&str> = pod.map(|pod| pod.split('_').collect()).unwrap_or_default();
    if let [namespace, pod, uid] = parts[..] {
        let mut pairs =
            vec![of("namespace.name", namespace), of("pod.name", pod), of("pod.uid", uid), of("container.name", container)];
        let restarts = name.split('.').next().filter(|number| number.parse::<u32>().is_ok());
        pairs.extend(restarts.map(|restarts| of("container.restart_count", restarts)));
        return Some(Told { service: Some(container.to_owned()), pairs });
    }
    let stem = name.strip_suffix(".log")?;
    let [pod, namespace, rest] = stem.split('_').collect::<Vec<_>>()[..] else { return None };
    let (container, id) = rest.rsplit_once('-').filter(|(_, id)| id.len() == 64)?;
    let pairs = vec![
        of("namespace.name", namespace),
        of("pod.name", pod),
        of("container.name", container),
        ("container.id".to_owned(), id.to_owned()),
    ];
    Some(Told { service: Some(container.to_owned()), pairs })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the files of others, on the real disk")]
mod tests {
    use super::super::config::FilesConfig;
    use super::*;

    fn shown(source: &str, path: &Path, wrapping: Wrapping) -> String {
        let config: FilesConfig = serde_norway::from_str(source).expect("valid");
        let source = config.source(Path::new("/")).expect("valid");
        let resource = resource(&source, path, wrapping, "node-1");
        let pairs = resource.attributes.iter().map(|(key, value)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn plain_files() {
        let path = Path::new("/var/log/web.log");
        let expect = "service.name=web log.file.path=/var/log/web.log host.name=node-1";
        assert_eq!(shown("{ paths: [/a] }", path, Wrapping::None), expect);
        let told = "{ paths: [/a], service: shop, labels: { env: prod, host.name: web-1, service.name: no } }";
        let expect = "service.name=shop env=prod host.name=web-1 log.file.path=/var/log/web.log";
        assert_eq!(shown(told, path, Wrapping::None), expect);
    }

    #[test]
    fn containers_of_docker() {
        let folder = tempfile::tempdir().expect("a folder");
        let id = "0123456789abcdef".repeat(4);
        let container = folder.path().join(&id);
        std::fs::create_dir(&container).expect("a folder");
        let path = container.join(format!("{id}-json.log"));
        let unknown = format!("service.name=0123456789ab container.id={id} host.name=node-1");
        assert_eq!(shown("{ paths: [/a] }", &path, Wrapping::Docker), unknown);
        let description = r#"{"ID":"x","Name":"/shop-web-1","Config":{"Image":"shop:1.2","Labels":{"com.docker.compose.service":"web","com.docker.compose.config-hash":"f","team":"a"}}}"#;
        std::fs::write(container.join("config.v2.json"), description).expect("a file");
        let expect = format!(
            "service.name=web container.id={id} container.name=shop-web-1 container.image.name=shop:1.2 container.label.com.docker.compose.service=web container.label.team=a host.name=node-1"
        );
        assert_eq!(shown("{ paths: [/a] }", &path, Wrapping::Docker), expect);
    }

    #[test]
    fn containers_of_kubernetes() {
        let path = Path::new("/var/log/pods/shop_web-7d9-x_1b2c/api/3.log");
        let expect = "service.name=api k8s.namespace.name=shop k8s.pod.name=web-7d9-x k8s.pod.uid=1b2c k8s.container.name=api k8s.container.restart_count=3 host.name=node-1";
        assert_eq!(shown("{ paths: [/a] }", path, Wrapping::Cri), expect);
        let id = "a".repeat(64);
        let path = format!("/var/log/containers/web-7d9-x_shop_api-{id}.log");
        let expect = format!(
            "service.name=api k8s.namespace.name=shop k8s.pod.name=web-7d9-x k8s.container.name=api container.id={id} host.name=node-1"
        );
        assert_eq!(shown("{ paths: [/a] }", Path::new(&path), Wrapping::Cri), expect);
        assert_eq!(shown("{ paths: [/a] }", Path::new("/tmp/x.log"), Wrapping::Cri), "service.name=x host.name=node-1");
    }
}
