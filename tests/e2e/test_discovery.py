"""Targets that are found: by HTTP, Docker and Kubernetes, and as Debian's Prometheus finds them."""

import difflib
import json
import queue
import shutil
import subprocess

import pytest
import requests
from bellrock_server import eventually, free_port
from web import Web

GLOBAL = "global: { scrape_interval: 300ms, scrape_timeout: 300ms }\n"


@pytest.fixture
def web():
    made = []

    def make(answer, **options):
        made.append(Web(answer, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def as_json(value):
    return 200, {"content-type": "application/json"}, json.dumps(value)


def config(*jobs):
    return GLOBAL + "scrape_configs:\n" + "".join(f"  - {json.dumps(job)}\n" for job in jobs)


def active(server):
    return server.get("/api/v1/targets")["data"]["activeTargets"]


def discovered(server):
    return {target["discoveredLabels"]["__address__"]: target["discoveredLabels"] for target in active(server)}


def test_http(make_server, web):
    state = {"groups": [{"targets": ["a:1", "b:1"], "labels": {"zone": "x"}}], "status": 200, "type": "application/json"}
    source = web(lambda request: (state["status"], {"content-type": state["type"]}, json.dumps(state["groups"])))
    sd = {"url": f"{source.url}/sd", "refresh_interval": "200ms", "basic_auth": {"username": "u", "password": "p"}}
    server = make_server(config=config({"job_name": "found", "http_sd_configs": [sd]})).start()
    eventually(lambda: sorted(discovered(server)) == ["a:1", "b:1"])
    assert discovered(server)["a:1"]["__meta_url"] == f"{source.url}/sd" and discovered(server)["a:1"]["zone"] == "x"
    assert source.requests[0].headers["x-prometheus-refresh-interval-seconds"] == "0.2"
    assert source.requests[0].headers["authorization"].startswith("Basic ")

    def error():
        return server.get("/api/v1/targets")["data"]["discoveries"][0]["lastError"]

    for change, expect in (
        ({"status": 500}, "500"), ({"status": 200, "type": "text/plain"}, "content type"),
        ({"type": "application/json", "groups": {"targets": 1}}, "no target groups"),
    ):
        state.update(change)
        eventually(lambda expect=expect: expect in error())
        assert sorted(discovered(server)) == ["a:1", "b:1"], "the last good targets stay"
    metrics = requests.get(f"{server.url}/metrics", timeout=5).text
    assert f'bellrock_discovery_targets{{scrape_job="found",mechanism="http",place="{source.url}/sd"}} 2' in metrics
    state["groups"] = [{"targets": ["c:1"]}]
    eventually(lambda: sorted(discovered(server)) == ["c:1"] and error() == "")


CONTAINERS = [
    {
        "Id": "aaa", "Names": ["/web"], "Labels": {"com.shop/tier": "front"}, "HostConfig": {"NetworkMode": "shop"},
        "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                  {"PrivatePort": 443, "Type": "tcp"}, {"PrivatePort": 53, "Type": "udp"}],
        "NetworkSettings": {"Networks": {"shop": {"NetworkID": "n1", "IPAddress": "10.0.0.2"}}},
    },
    {
        "Id": "bbb", "Names": ["/quiet"], "Labels": {}, "HostConfig": {"NetworkMode": "shop"}, "Ports": [],
        "NetworkSettings": {"Networks": {"shop": {"NetworkID": "n1", "IPAddress": "10.0.0.3"}}},
    },
    {
        "Id": "ccc", "Names": ["/node"], "Labels": {}, "HostConfig": {"NetworkMode": "host"}, "Ports": [],
        "NetworkSettings": {"Networks": {"host": {"NetworkID": "n2", "IPAddress": ""}}},
    },
]
NETWORKS = [
    {"Id": "n1", "Name": "shop", "Scope": "local", "Internal": False, "Ingress": False, "Labels": {"team-a": "yes"}},
    {"Id": "n2", "Name": "host", "Scope": "local", "Internal": False, "Ingress": False, "Labels": {}},
]


def docker(containers):
    def answer(request):
        path = request.path.removeprefix("/v1.41").removeprefix("/v1.24")
        if path == "/containers/json":
            return as_json(containers)
        if path == "/networks":
            return as_json(NETWORKS)
        return 200, {"api-version": "1.41", "content-type": "text/plain"}, "OK"

    return answer


def test_docker(make_server, web, tmp_path):
    socket, containers = tmp_path / "docker.sock", list(CONTAINERS)
    engine = web(docker(containers), unix=socket)
    sd = {"host": f"unix://{socket}", "refresh_interval": "200ms", "port": 9100, "filters": [{"name": "label", "values": ["a=b"]}]}
    server = make_server(config=config({"job_name": "containers", "docker_sd_configs": [sd]})).start()
    eventually(lambda: sorted(discovered(server)) == ["10.0.0.2:443", "10.0.0.2:80", "10.0.0.3:9100", "localhost"])
    assert json.loads(engine.requests[0].query["filters"][0]) == {"label": ["a=b"]}
    del containers[0]
    eventually(lambda: sorted(discovered(server)) == ["10.0.0.3:9100", "localhost"])


class Cluster:
    """An API server that answers list and watch as Kubernetes' does."""

    def __init__(self):
        self.objects, self.watches, self.version = {}, {}, 100
        # What has happened, by path: a watch begins with what came after its version.
        self.past = {}

    def put(self, path, value, event="MODIFIED"):
        self.version += 1
        value["metadata"]["resourceVersion"] = str(self.version)
        key = (value["metadata"].get("namespace", ""), value["metadata"]["name"])
        kept = self.objects.setdefault(path, {})
        if event == "DELETED":
            kept.pop(key)
        else:
            kept[key] = value
        self.send(path, event, value)

    def send(self, path, event, value):
        if event != "ERROR":
            self.past.setdefault(path, []).append({"type": event, "object": value})
        for watch in self.watches.get(path, []):
            watch.put({"type": event, "object": value})

    def end_watches(self):
        for watches in self.watches.values():
            for watch in watches:
                watch.put(None)

    def answer(self, request):
        if request.headers.get("authorization") != "Bearer kube":
            return 401, {"content-type": "application/json"}, json.dumps({"kind": "Status", "message": "who are you"})
        if "watch" not in request.query:
            items = list(self.objects.get(request.path, {}).values())
            # In pages of one, as a large cluster would answer.
            at = int(request.query.get("continue", ["0"])[0])
            following = str(at + 1) if at + 1 < len(items) else ""
            meta = {"resourceVersion": str(self.version), "continue": following}
            return as_json({"kind": "List", "metadata": meta, "items": items[at : at + 1]})
        handler, events = request.handler, queue.Queue()
        since = int(request.query["resourceVersion"][0])
        for event in self.past.get(request.path, []):
            if int(event["object"]["metadata"]["resourceVersion"]) > since:
                events.put(event)
        self.watches.setdefault(request.path, []).append(events)
        handler.send_response(200)
        handler.send_header("content-type", "application/json")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()

        def chunk(data):
            handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            handler.wfile.flush()

        while (event := events.get()) is not None:
            chunk(json.dumps(event).encode() + b"\n")
        self.watches[request.path].remove(events)
        chunk(b"")
        return None


def pod(name, ip, phase="Running"):
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": f"u-{name}", "labels": {"app.kubernetes.io/name": "web"},
                     "annotations": {"prometheus.io/scrape": "true"},
                     "ownerReferences": [{"kind": "ReplicaSet", "name": "web-1", "controller": True}]},
        "spec": {"nodeName": "n1", "containers": [
            {"name": "app", "image": "shop:1",
             "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}, {"containerPort": 9000, "protocol": "TCP"}]}],
            "initContainers": [{"name": "prepare", "image": "init:1"}]},
        "status": {"podIP": ip, "hostIP": "192.168.0.1", "phase": phase,
                   "conditions": [{"type": "Ready", "status": "True"}],
                   "containerStatuses": [{"name": "app", "containerID": "containerd://1"}]},
    }


SERVICE = {
    "metadata": {"name": "web", "namespace": "shop", "labels": {"team": "a"}},
    "spec": {"type": "ClusterIP", "clusterIP": "10.1.0.1", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
}
NODE = {
    "metadata": {"name": "n1", "labels": {"zone": "z1"}}, "spec": {"providerID": "kind://n1"},
    "status": {"addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "192.168.0.1"}],
               "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}},
}
REFERENCE = {"kind": "Pod", "name": "web-a", "namespace": "shop"}
ENDPOINTS = {
    "metadata": {"name": "web", "namespace": "shop"},
    "subsets": [{"addresses": [{"ip": "10.2.0.1", "nodeName": "n1", "targetRef": REFERENCE}],
                 "notReadyAddresses": [{"ip": "10.2.0.9"}], "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}]}],
}
SLICE = {
    "metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4", "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
    "endpoints": [{"addresses": ["10.2.0.1"], "conditions": {"ready": True}, "nodeName": "n1", "zone": "z1", "targetRef": REFERENCE}],
}
INGRESS = {
    "metadata": {"name": "front", "namespace": "shop"},
    "spec": {"ingressClassName": "nginx", "tls": [{"hosts": ["*.shop.test"]}],
             "rules": [{"host": "a.shop.test", "http": {"paths": [{"path": "/"}, {"path": "/api"}]}}, {"host": "plain.test"}]},
}
PODS, SHOP_PODS = "/api/v1/pods", "/api/v1/namespaces/shop/pods"


@pytest.fixture
def cluster(web):
    cluster = Cluster()
    for path in (PODS, SHOP_PODS):
        cluster.put(path, pod("web-a", "10.2.0.1"))
        cluster.put(path, pod("web-b", "10.2.0.2"))
    cluster.put("/api/v1/services", dict(SERVICE))
    cluster.put("/api/v1/nodes", dict(NODE))
    cluster.put("/api/v1/endpoints", dict(ENDPOINTS))
    cluster.put("/apis/discovery.k8s.io/v1/endpointslices", dict(SLICE))
    cluster.put("/apis/networking.k8s.io/v1/ingresses", dict(INGRESS))
    cluster.web = web(cluster.answer)
    yield cluster
    cluster.end_watches()


def kubernetes(cluster, role, **more):
    sd = {"api_server": cluster.web.url, "role": role, "bearer_token": "kube", **more}
    return {"job_name": role, "kubernetes_sd_configs": [sd]}


META = "__meta_kubernetes_"


def test_kubernetes_roles(make_server, cluster):
    roles = ["node", "pod", "service", "endpoints", "endpointslice", "ingress"]
    jobs = [kubernetes(cluster, role, attach_metadata={"node": role in ("pod", "endpoints")}) for role in roles]
    server = make_server(config=config(*jobs)).start()

    def of(role):
        found = [target for target in active(server) if target["scrapePool"] == role]
        return {target["scrapeUrl"].removesuffix("/metrics").split("://")[1]: target["discoveredLabels"] for target in found}

    expected = {
        "node": ["192.168.0.1:10250"],
        "pod": ["10.2.0.1", "10.2.0.1:8000", "10.2.0.1:9000", "10.2.0.2", "10.2.0.2:8000", "10.2.0.2:9000"],
        "service": ["web.shop.svc:80"],
        "endpoints": ["10.2.0.1:8000", "10.2.0.1:9000", "10.2.0.9:8000"],
        "endpointslice": ["10.2.0.1:8000", "10.2.0.1:9000"],
        "ingress": ["a.shop.test", "plain.test"],
    }
    for role, addresses in expected.items():
        eventually(lambda role=role, addresses=addresses: sorted(of(role)) == addresses)

    def check(labels, **expect):
        for name, value in expect.items():
            assert labels.get(META + name) == value, (name, labels)

    check(of("node")["192.168.0.1:10250"], node_name="n1", node_label_zone="z1", node_labelpresent_zone="true",
          node_provider_id="kind://n1", node_address_InternalIP="192.168.0.1", node_address_Hostname="n1")
    check(of("pod")["10.2.0.1:8000"], namespace="shop", pod_name="web-a", pod_ip="10.2.0.1", pod_ready="true",
          pod_phase="Running", pod_node_name="n1", pod_host_ip="192.168.0.1", pod_uid="u-web-a",
          pod_label_app_kubernetes_io_name="web", pod_annotation_prometheus_io_scrape="true",
          pod_annotationpresent_prometheus_io_scrape="true", pod_controller_kind="ReplicaSet", pod_controller_name="web-1",
          pod_container_name="app", pod_container_image="shop:1", pod_container_id="containerd://1", pod_container_init="false",
          pod_container_port_name="http", pod_container_port_number="8000", pod_container_port_protocol="TCP",
          node_label_zone="z1")
    check(of("pod")["10.2.0.1"], pod_container_name="prepare", pod_container_init="true")
    check(of("service")["web.shop.svc:80"], service_name="web", service_type="ClusterIP", service_cluster_ip="10.1.0.1",
          service_port_name="http", service_port_number="80", service_label_team="a")
    check(of("endpoints")["10.2.0.1:8000"], endpoints_name="web", service_label_team="a", endpoint_ready="true",
          endpoint_port_name="http", endpoint_node_name="n1", endpoint_address_target_kind="Pod", pod_name="web-a",
          endpoint_address_target_name="web-a", pod_container_port_name="http", node_label_zone="z1")
    check(of("endpoints")["10.2.0.9:8000"], endpoint_ready="false", pod_name=None)
    check(of("endpoints")["10.2.0.1:9000"], endpoint_ready=None, pod_container_port_number="9000")
    check(of("endpointslice")["10.2.0.1:8000"], endpointslice_name="web-x", endpointslice_address_type="IPv4",
          endpointslice_port="8000", endpointslice_port_name="http", endpointslice_endpoint_conditions_ready="true",
          endpointslice_endpoint_zone="z1", endpointslice_address_target_name="web-a", service_label_team="a", pod_name="web-a")
    check(of("ingress")["a.shop.test"], ingress_name="front", ingress_scheme="https", ingress_class_name="nginx")
    check(of("ingress")["plain.test"], ingress_scheme="http", ingress_path="/")


def test_kubernetes_is_watched(make_server, cluster):
    selectors = [{"role": "pod", "label": "app=web"}]
    one = kubernetes(cluster, "pod", namespaces={"names": ["shop"]}, selectors=selectors)
    keep = {"source_labels": [META + "pod_container_port_name"], "regex": "http", "action": "keep"}
    server = make_server(config=config({**one, "relabel_configs": [keep]})).start()
    eventually(lambda: sorted(discovered(server)) == ["10.2.0.1:8000", "10.2.0.2:8000"])
    lists = [request for request in cluster.web.requests if "watch" not in request.query]
    assert {request.path for request in lists} == {SHOP_PODS} and lists[0].query["labelSelector"] == ["app=web"]
    cluster.put(SHOP_PODS, pod("web-c", "10.2.0.3"), "ADDED")
    eventually(lambda: "10.2.0.3:8000" in discovered(server))
    cluster.put(SHOP_PODS, pod("web-a", "10.2.0.1", phase="Failed"))
    eventually(lambda: discovered(server)["10.2.0.1:8000"][META + "pod_phase"] == "Failed")
    cluster.put(SHOP_PODS, pod("web-b", "10.2.0.2"), "DELETED")
    eventually(lambda: sorted(discovered(server)) == ["10.2.0.1:8000", "10.2.0.3:8000"])
    # A version that is gone means a new list; what changed meanwhile is found.
    cluster.objects[SHOP_PODS][("shop", "web-d")] = pod("web-d", "10.2.0.4")
    cluster.send(SHOP_PODS, "ERROR", {"kind": "Status", "code": 410, "message": "too old"})
    eventually(lambda: "10.2.0.4:8000" in discovered(server))
    # A watch that ends is followed by one from where it stood.
    cluster.end_watches()
    cluster.put(SHOP_PODS, pod("web-e", "10.2.0.5"), "ADDED")
    eventually(lambda: "10.2.0.5:8000" in discovered(server))
    assert server.get("/api/v1/targets")["data"]["discoveries"][0]["failures"] == 0


def test_kubernetes_failures_are_told(make_server, cluster):
    sd = {"api_server": cluster.web.url, "role": "node", "bearer_token": "wrong"}
    server = make_server(config=config({"job_name": "nodes", "kubernetes_sd_configs": [sd]})).start()

    def error():
        return server.get("/api/v1/targets")["data"]["discoveries"][0]["lastError"]

    assert eventually(error) == "/api/v1/nodes: server returned HTTP status 401 Unauthorized: who are you"


RELABELLING = [
    {"source_labels": ["__address__"], "regex": "(.*):\\d+", "target_label": "host"},
    {"source_labels": ["__address__", "zone"], "separator": "@", "target_label": "where"},
    {"source_labels": ["__address__"], "modulus": 7, "target_label": "shard", "action": "hashmod"},
    {"regex": "__meta_docker_(container|network)_(name|label_.*)", "replacement": "docker_${1}_$2", "action": "labelmap"},
    {"source_labels": ["__meta_filepath"], "regex": ".*/(\\w+)\\.json", "replacement": "$1", "target_label": "file"},
    {"source_labels": ["__meta_url"], "regex": "https?://[^/]+/(.+)", "target_label": "from_$1", "replacement": "x"},
    {"source_labels": ["zone"], "target_label": "zone", "action": "uppercase"},
    {"source_labels": ["host"], "regex": "drop.*", "action": "drop"},
    {"regex": "secret_.*", "action": "labeldrop"},
    {"source_labels": ["probe"], "regex": "(.+)", "target_label": "__param_target"},
    {"source_labels": ["probe"], "regex": "(.+)", "target_label": "__scrape_interval__", "replacement": "20s"},
    {"source_labels": ["path"], "regex": "(.+)", "target_label": "__metrics_path__"},
    {"source_labels": ["job", "host"], "regex": "static;h2", "target_label": "job", "replacement": "renamed"},
    {"target_label": "empty", "replacement": ""},
]


@pytest.mark.skipif(not shutil.which("prometheus"), reason="Debian's prometheus is not installed")
def test_targets_are_those_of_prometheus(make_server, web, tmp_path):
    """Static, file, HTTP and Docker discovery and relabelling give the labels and URLs that Debian's Prometheus 2.42 gives."""
    files, socket = tmp_path / "groups.json", tmp_path / "docker.sock"
    files.write_text(json.dumps([{"targets": ["f1:9100", "drop1:9100"], "labels": {"zone": "a", "secret_x": "1"}},
                                 {"targets": ["f2:9100"], "labels": {"path": "/other/p%th"}}]))
    source = web(lambda request: as_json([{"targets": ["w1:80", "[::1]:9100"], "labels": {"probe": "https://shop/?a=b&c"}}]))
    web(docker(CONTAINERS), unix=socket)
    jobs = [
        {"job_name": "static", "params": {"module": ["http 2xx", "second"], "target": ["none"]},
         "static_configs": [{"targets": ["h1:9100", "h2:9100", "h1:9100"], "labels": {"zone": "ä", "instance": "own"}},
                            {"targets": ["h3:443"], "labels": {"__scheme__": "https", "__metrics_path__": "/m"}}]},
        {"job_name": "files", "file_sd_configs": [{"files": [str(files)]}]},
        {"job_name": "http", "http_sd_configs": [{"url": f"{source.url}/groups"}]},
        {"job_name": "docker", "docker_sd_configs": [
            {"host": f"unix://{socket}", "port": 8080, "host_networking_host": "localhost:9100"}]},
    ]
    text = ("global: { scrape_interval: 30s, scrape_timeout: 10s }\nscrape_configs:\n"
            + "".join(f"  - {json.dumps({**job, 'relabel_configs': RELABELLING})}\n" for job in jobs))
    server = make_server(config=text).start()
    port = free_port()
    command = ["prometheus", f"--config.file={server.config}", f"--storage.tsdb.path={tmp_path}/prometheus",
               f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    peer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # It waits five seconds before it follows discoveries.
        theirs = eventually(lambda: settled(f"http://127.0.0.1:{port}"), timeout=40, interval=0.5)
    finally:
        peer.terminate()
        peer.wait()
    ours = eventually(lambda: settled(server.url))
    differences = list(difflib.unified_diff(theirs, ours, "prometheus", "bellrock", lineterm="", n=4))
    assert not differences, "\n".join(differences)


def settled(url):
    """What is compared of all targets, sorted, once there are as many as there must be."""
    data = requests.get(f"{url}/api/v1/targets", timeout=5).json()["data"]
    keys = ("scrapePool", "labels", "scrapeUrl", "scrapeInterval", "scrapeTimeout")

    def found(target):
        # Those without underscores Prometheus 2.42 overwrites in place when it relabels: `job` turns into what came last.
        return {name: value for name, value in target["discoveredLabels"].items() if name.startswith("__")}

    targets = [{"discovered": found(target), **{key: target[key] for key in keys}} for target in data["activeTargets"]]
    dropped = [found(target) for target in data["droppedTargets"]]
    if len(targets) != 11:
        return None
    return "\n".join(sorted(json.dumps(one, indent=1, sort_keys=True) for one in targets + dropped)).splitlines()
