"""A pods API on loopback that runs the containers' commands for real, as processes of this machine.

Nodes are folders: a host path lies below its node's folder, a claim is a folder of its own, an emptyDir a
folder of its pod. Each container has its own mount and process namespace, its volumes where the pod mounts
them. It is no proof that a real server takes a pod: only that a run's pods, run as they are, do its work.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

ENTER = (
    'while [ "$1" != -- ]; do mkdir -p "$1" "$2" && mount --bind "$1" "$2" || exit 125; shift 2; done; '
    'shift; exec "$@"'
)
NAMESPACES = ("unshare", "-mpf", "--mount-proc", "--kill-child")


def why_not() -> str | None:
    """Return why containers cannot be run here, ``None`` where they can."""
    if shutil.which("unshare") is None:
        return "needs unshare"
    tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"needs the right to make namespaces: {tried.stderr.strip()}"


@dataclass(eq=False)
class Pod:
    """A pod, the process of its container, and what that has printed."""

    manifest: dict[str, Any]
    process: subprocess.Popen[str] | None = None
    log: list[str] = field(default_factory=list)
    killed_as: str | None = None

    @property
    def over(self) -> bool:
        return self.manifest["status"]["phase"] in ("Succeeded", "Failed")


@dataclass
class FakeCluster:
    """Nodes (name to labels), claims (name to folder), and the pods that were asked for, deleted ones too."""

    folder: Path
    path: str
    nodes: Mapping[str, Mapping[str, str]]
    claims: Mapping[str, Path] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def create(self, manifest: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        spec, metadata = manifest["spec"], manifest["metadata"]
        problem = wrong(spec) or self.schedule(spec)
        if problem:
            return 422, {"kind": "Status", "status": "Failure", "message": problem, "code": 422}
        metadata |= {"uid": str(uuid4()), "creationTimestamp": now(), "resourceVersion": "1"}
        manifest["status"] = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}
        pod = Pod(manifest)
        with self.lock:
            if metadata["name"] in self.pods:
                return 409, {"kind": "Status", "message": "exists", "code": 409}
            self.pods[metadata["name"]] = pod
            self.made.append(manifest)
        threading.Thread(target=self.run, args=(pod,), daemon=True).start()
        return 201, manifest

    def schedule(self, spec: dict[str, Any]) -> str | None:
        required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (node,) = required["nodeSelectorTerms"][0]["matchFields"][0]["values"]
        if node not in self.nodes:
            return f"no node {node}"
        if not spec.get("nodeSelector", {}).items() <= self.nodes[node].items():
            return f"node {node} lacks labels"
        spec["nodeName"] = node
        return None

    def source(self, volume: Mapping[str, Any], node: str, pod: str) -> Path:
        if "hostPath" in volume:
            return self.folder / "nodes" / node / volume["hostPath"]["path"].lstrip("/")
        if "persistentVolumeClaim" in volume:
            return self.claims[volume["persistentVolumeClaim"]["claimName"]]
        assert "emptyDir" in volume
        return self.folder / "pods" / pod / volume["name"]

    def run(self, pod: Pod) -> None:
        spec, name = pod.manifest["spec"], pod.manifest["metadata"]["name"]
        (container,) = spec["containers"]
        volumes = {volume["name"]: self.source(volume, spec["nodeName"], name) for volume in spec["volumes"]}
        if missing := [
            one for one in spec["volumes"] if "hostPath" in one and not volumes[one["name"]].is_dir()
        ]:
            self.refuse_to_mount(name, missing[0])
            return
        mounts = []
        for mount in container["volumeMounts"]:
            mounts += [str(volumes[mount["name"]] / mount.get("subPath", "")), mount["mountPath"]]
        command = [*container["command"], *container.get("args", [])]
        env = {one["name"]: one.get("value", "") for one in container.get("env", [])}
        pod.process = subprocess.Popen(
            [*NAMESPACES, "sh", "-c", ENTER, "enter", *mounts, "--", *command],
            env={"PATH": self.path, "HOSTNAME": name, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started = {"startedAt": now()}
        self.report(pod, "Running", {"running": started})
        assert pod.process.stdout is not None
        for line in pod.process.stdout:
            pod.log.append(f"{now()} {line.rstrip()}")
        code = pod.process.wait()
        shutil.rmtree(self.folder / "pods" / name, ignore_errors=True)
        if pod.killed_as == "Evicted":
            message = "The node was low on resource: memory."
            pod.manifest["status"] |= {"reason": "Evicted", "message": message}
        if pod.killed_as is not None:
            code = 137
        reason = {None: "Error" if code else "Completed", "Evicted": "Error"}.get(pod.killed_as)
        ended = {"exitCode": code, "reason": reason or pod.killed_as, "finishedAt": now()}
        self.report(pod, "Failed" if code else "Succeeded", {"terminated": {**ended, **started}})

    def refuse_to_mount(self, pod: str, volume: Mapping[str, Any]) -> None:
        """Leave the pod waiting, as a kubelet does that does not find a folder."""
        what = f'MountVolume.SetUp failed for volume "{volume["name"]}" : hostPath type check failed'
        message = f"{what}: {volume['hostPath']['path']} is not a directory"
        event = {"involvedObject": {"name": pod}, "reason": "FailedMount", "message": message}
        self.events[pod] = [{**event, "metadata": {"name": f"{pod}.1"}, "type": "Warning"}]

    def kill(self, label: str, reason: str) -> None:
        """Kill the one pod of this label that runs, as a kubelet does: ``OOMKilled`` or ``Evicted``."""
        labels = {one: one.manifest["metadata"]["annotations"]["qosflow/label"] for one in self.running()}
        (pod,) = [one for one, found in labels.items() if found == label]
        assert pod.process is not None
        pod.killed_as = reason
        pod.process.kill()

    def running(self) -> list[Pod]:
        with self.lock:
            return [pod for pod in self.pods.values() if pod.process is not None and not pod.over]

    def report(self, pod: Pod, phase: str, state: Mapping[str, Any]) -> None:
        (container,) = pod.manifest["spec"]["containers"]
        status = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
        ready = {"ready": phase == "Running", "started": phase == "Running", "state": dict(state)}
        found = {**pod.manifest["status"], "containerStatuses": [{**status, **ready}], "startTime": now()}
        pod.manifest["status"] = {**found, "phase": phase}

    def delete(self, name: str) -> tuple[int, dict[str, Any]]:
        with self.lock:
            pod = self.pods.pop(name, None)
        if pod is None:
            return 404, {"kind": "Status", "message": "not found", "code": 404}
        if pod.process is not None and not pod.over:
            pod.process.kill()
        return 200, pod.manifest

    def select(self, selector: str) -> list[dict[str, Any]]:
        terms = [term for term in re.split(r",(?![^(]*\))", selector) if term]
        with self.lock:
            pods = [pod.manifest for pod in self.pods.values()]
        return [pod for pod in pods if all(holds(pod["metadata"].get("labels", {}), term) for term in terms)]

    def node_list(self) -> dict[str, Any]:
        return {
            "kind": "NodeList",
            "apiVersion": "v1",
            "metadata": {},
            "items": [
                {
                    "metadata": {"name": name, "labels": dict(labels)},
                    "spec": {},
                    "status": {
                        "allocatable": {"cpu": "4", "memory": "8Gi"},
                        "conditions": [{"type": "Ready", "status": "True"}],
                    },
                }
                for name, labels in self.nodes.items()
            ],
        }

    def claim(self, name: str) -> tuple[int, dict[str, Any]]:
        if name not in self.claims:
            return 404, {"kind": "Status", "message": "not found", "code": 404}
        spec = {"accessModes": ["ReadWriteMany"]}
        return 200, {"metadata": {"name": name}, "spec": spec, "status": {"phase": "Bound"}}


def wrong(spec: Mapping[str, Any]) -> str | None:
    """Return what a real server would refuse as well, of what goes wrong most easily."""
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    for container in spec["containers"]:
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                return f"volumeMounts: {mount['name']} is not declared"
        for one in container.get("env", []):
            if not isinstance(one.get("value", ""), str):
                return f"env: {one['name']} is no text"
    return None


def holds(labels: Mapping[str, str], term: str) -> bool:
    """Return whether a term of a label selector holds."""
    if term.startswith("!"):
        return term[1:] not in labels
    if "!=" in term:
        key, _, value = term.partition("!=")
        return labels.get(key) != value
    key, _, value = term.replace("==", "=").partition("=")
    return labels.get(key) == value if "=" in term else key in labels


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class _Handler(BaseHTTPRequestHandler):
    cluster: FakeCluster

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, code: int, body: Mapping[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def parts(self) -> tuple[list[str], dict[str, str]]:
        url = urlsplit(self.path)
        return url.path.strip("/").split("/")[2:], {k: v[0] for k, v in parse_qs(url.query).items()}

    def do_GET(self) -> None:
        match self.parts():
            case ["nodes"], _:
                self.answer(200, self.cluster.node_list())
            case ["namespaces", _, "persistentvolumeclaims", name], _:
                self.answer(*self.cluster.claim(name))
            case ["namespaces", _, "events"], query:
                events = self.cluster.events.get(query.get("fieldSelector", "").partition("=")[2], [])
                self.answer(200, {"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": events})
            case ["namespaces", _, "pods"], query:
                items = self.cluster.select(query.get("labelSelector", ""))
                self.answer(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
            case ["namespaces", _, "pods", name], _:
                pod = self.cluster.pods.get(name)
                self.answer(200, pod.manifest) if pod else self.answer(404, {"kind": "Status", "code": 404})
            case ["namespaces", _, "pods", name, "log"], query:
                self.stream(self.cluster.pods[name], query)
            case _:
                self.answer(404, {"kind": "Status", "message": self.path, "code": 404})

    def stream(self, pod: Pod, query: Mapping[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        sent = 0
        while True:
            over = pod.over
            for line in pod.log[sent:]:
                text = line if query.get("timestamps", "").lower() == "true" else line.partition(" ")[2]
                self.wfile.write(f"{text}\n".encode())
                sent += 1
            if over or query.get("follow", "").lower() != "true":
                return
            time.sleep(0.05)

    def do_POST(self) -> None:
        self.answer(*self.cluster.create(self.body()))

    def do_PATCH(self) -> None:
        parts, _ = self.parts()
        pod = self.cluster.pods.get(parts[3])
        change = self.body()
        if pod is None:
            self.answer(404, {"kind": "Status", "code": 404})
            return
        labels = change.get("metadata", {}).get("labels", {})
        pod.manifest["metadata"].setdefault("labels", {}).update(labels)
        self.answer(200, pod.manifest)

    def do_DELETE(self) -> None:
        parts, _ = self.parts()
        if int(self.headers.get("Content-Length") or 0):
            self.body()
        self.answer(*self.cluster.delete(parts[3]))


@contextmanager
def serving(cluster: FakeCluster) -> Iterator[Path]:
    """Serve the cluster on a free port of loopback; yield a kubeconfig that leads to it."""
    handler = type("Handler", (_Handler,), {"cluster": cluster})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = cluster.folder / "kubeconfig.yaml"
    address = f"http://127.0.0.1:{server.server_address[1]}"
    text = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": address}}],
        "users": [{"name": "fake", "user": {}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
    }
    config.write_text(json.dumps(text), encoding="utf-8")
    try:
        yield config
    finally:
        for name in list(cluster.pods):
            cluster.delete(name)
        server.shutdown()
        server.server_close()
