"""What schemas do not see in a set of manifests: names, selectors, ports and volumes that lead nowhere.

kubectl kustomize infra/kubernetes/overlays/production | python infra/kubernetes/check.py

Prints a sentence per fault, and exits with 1 when there is one.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml

Manifest = dict[str, Any]
Rule = Callable[[Sequence[Manifest]], Iterator[str]]

MADE_BY_HAND = {
    ("ConfigMap", "mediscale-signers"),
    ("Secret", "mediscale-signing"),
    ("Secret", "mediscale-credentials"),
    ("Secret", "mediscale-api-keys"),
    ("Secret", "mediscale-tls"),
    ("Secret", "mediscale-prometheus"),
    ("Secret", "mediscale-ray"),
    ("Secret", "mediscale-gateway-tls"),
    ("ConfigMap", "mediscale-ca"),
    ("ConfigMap", "mediscale-stage-pod"),
    ("PersistentVolumeClaim", "mediscale-extracts"),
}
"""What manifests name and do not hold: docs/deployment.md says how each is made."""

CHART_PODS: list[Manifest] = [{"metadata": {"labels": {"tier": "airflow"}}, "spec": {"containers": []}}]
"""What charts make here, by the labels that their pods have (infra/helm/airflow.yaml)."""

_SOURCES = {
    "configMap": ("ConfigMap", "name"),
    "secret": ("Secret", "secretName"),
    "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
}
"""Of a volume: the kind that it names, and the field that has the name."""


def faults(manifests: Sequence[Manifest]) -> list[str]:
    """Every fault, a sentence each."""
    return [fault for rule in RULES for fault in rule(manifests)]


# --- what the rules look at --------------------------------------------------------------------------------------


def pod_of(manifest: Manifest) -> Manifest | None:
    """The pod that a workload makes, with its labels; None for what makes none."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Pod":
        return manifest
    if manifest["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template: Manifest | None = spec.get("template")
    return template


def workloads(manifests: Sequence[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Name for a sentence, workload and its pod."""
    for manifest in manifests:
        if pod := pod_of(manifest):
            yield _name(manifest), manifest, pod


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def _of_kind(manifests: Sequence[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def _labels(pod: Manifest) -> Mapping[str, str]:
    labels: Mapping[str, str] = pod.get("metadata", {}).get("labels", {})
    return labels


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector, of a policy or plain as a Service's, takes what has these labels."""
    plain = {key: value for key, value in selector.items() if key not in ("matchLabels", "matchExpressions")}
    required = {**plain, **selector.get("matchLabels", {})}
    return required.items() <= labels.items() and all(
        _holds(one, labels) for one in selector.get("matchExpressions", [])
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values", [])
    return {
        "In": labels.get(key) in values,
        "NotIn": labels.get(key) not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }[expression["operator"]]


def _selected(manifests: Sequence[Manifest], selector: Mapping[str, Any]) -> list[Manifest]:
    return [pod for _, _, pod in workloads(manifests) if selects(selector, _labels(pod))]


def _containers(pod: Manifest) -> list[Manifest]:
    spec = pod["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def _has_port(pod: Manifest, port: object) -> bool:
    ports = [one for container in _containers(pod) for one in container.get("ports", [])]
    return any(port in (one.get("name"), one["containerPort"]) for one in ports)


# --- the rules ---------------------------------------------------------------------------------------------------


def services_reach_pods(manifests: Sequence[Manifest]) -> Iterator[str]:
    for service in _of_kind(manifests, "Service"):
        pods = _selected(manifests, service["spec"]["selector"])
        if not pods:
            yield f"{_name(service)} selects no pod."
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            if pods and not any(_has_port(pod, target) for pod in pods):
                yield f"{_name(service)} leads to the port {target}, which no container of its pods has."


def workloads_own_their_pods(manifests: Sequence[Manifest]) -> Iterator[str]:
    services = {one["metadata"]["name"]: one for one in _of_kind(manifests, "Service")}
    for name, workload, pod in workloads(manifests):
        spec = workload["spec"]
        if "selector" in spec and not selects(spec["selector"], _labels(pod)):
            yield f"{name} does not select the pods that it makes."
        if workload["kind"] == "StatefulSet":
            service = services.get(spec["serviceName"])
            if service is None or service["spec"].get("clusterIP") != "None":
                yield f"{name} names the Service {spec['serviceName']}, and there is no headless one of that name."


def volumes_exist(manifests: Sequence[Manifest]) -> Iterator[str]:
    for name, workload, pod in workloads(manifests):
        claims = [one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates", [])]
        volumes = {*claims, *(volume["name"] for volume in pod["spec"].get("volumes", []))}
        mounts = {mount["name"] for one in _containers(pod) for mount in one.get("volumeMounts", [])}
        for missing in sorted(mounts - volumes):
            yield f"{name} mounts the volume {missing}, which it does not have."
        for unused in sorted(volumes - mounts):
            yield f"{name} has the volume {unused}, which nothing mounts."
        for container in _containers(pod):
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            for path in sorted({path for path in paths if paths.count(path) > 1}):
                yield f"{name} mounts two volumes at {path}."


def names_exist(manifests: Sequence[Manifest]) -> Iterator[str]:
    here = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests} | MADE_BY_HAND
    for name, _, pod in workloads(manifests):
        for kind, named in _named(pod):
            if (kind, named) not in here:
                yield f"{name} names the {kind} {named}, which is neither here nor among what is made by hand."


def _named(pod: Manifest) -> Iterator[tuple[str, str]]:
    spec = pod["spec"]
    yield "ServiceAccount", spec.get("serviceAccountName", "default")
    for volume in spec.get("volumes", []):
        for source, (kind, field) in _SOURCES.items():
            if source in volume:
                yield kind, volume[source][field]
    for container in _containers(pod):
        for source in container.get("envFrom", []):
            yield from ((f"{kind[0].upper()}{kind[1:-3]}", one["name"]) for kind, one in source.items())
        for variable in container.get("env", []):
            for key, one in variable.get("valueFrom", {}).items():
                if key in ("configMapKeyRef", "secretKeyRef"):
                    yield f"{key[0].upper()}{key[1:-6]}", one["name"]


def bindings_exist(manifests: Sequence[Manifest]) -> Iterator[str]:
    here = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    for binding in _of_kind(manifests, "RoleBinding"):
        for one in (binding["roleRef"], *binding["subjects"]):
            if (one["kind"], one["name"]) not in here:
                yield f"{_name(binding)} names the {one['kind']} {one['name']}, which does not exist."


def probes_have_ports(manifests: Sequence[Manifest]) -> Iterator[str]:
    for name, workload, pod in workloads(manifests):
        for container in _containers(pod):
            probes = _probes(container)
            for kind, probe in probes.items():
                port = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
                if port is not None and not _has_port(pod, port):
                    yield f"{name} has a {kind} on the port {port}, which no container of it has."
            answers = workload["kind"] in ("Deployment", "StatefulSet")
            for kind in {"livenessProbe", "readinessProbe"} - probes.keys() if answers else ():
                yield f"{name} has no {kind}."


def disruptions_leave_room(manifests: Sequence[Manifest]) -> Iterator[str]:
    here = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    for scaler in _of_kind(manifests, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) not in here:
            yield f"{_name(scaler)} scales the {target['kind']} {target['name']}, which does not exist."
    for budget in _of_kind(manifests, "PodDisruptionBudget"):
        if not _selected(manifests, budget["spec"]["selector"]):
            yield f"{_name(budget)} selects no pod."
        if not budget["spec"].get("maxUnavailable"):
            yield f"{_name(budget)} lets no pod go, so that no node can be drained."


def network_is_closed(manifests: Sequence[Manifest]) -> Iterator[str]:
    policies = [policy["spec"] for policy in _of_kind(manifests, "NetworkPolicy")]
    closed = any(
        not spec["podSelector"]
        and {"Ingress", "Egress"} <= set(spec["policyTypes"])
        and not spec.keys() & {"ingress", "egress"}
        for spec in policies
    )
    if not closed:
        yield "No NetworkPolicy denies everything to every pod."
    for policy in _of_kind(manifests, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]
        pods = _selected(manifests, selector) + [one for one in CHART_PODS if selects(selector, _labels(one))]
        if not pods:
            yield f"{_name(policy)} selects no pod."
        for rule in policy["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                if pods and not any(_has_port(pod, port["port"]) for pod in pods):
                    yield f"{_name(policy)} opens the port {port['port']}, which no container of its pods has."
            if not rule.get("from"):
                yield f"{_name(policy)} lets everybody in."


def monitors_find_services(manifests: Sequence[Manifest]) -> Iterator[str]:
    for monitor in _of_kind(manifests, "ServiceMonitor"):
        services = [
            service
            for service in _of_kind(manifests, "Service")
            if selects(monitor["spec"]["selector"], service["metadata"].get("labels", {}))
        ]
        if len(services) != 1:
            yield f"{_name(monitor)} selects {len(services)} Services, and not one."
        for endpoint in monitor["spec"]["endpoints"]:
            ports = [port.get("name") for service in services for port in service["spec"]["ports"]]
            if services and endpoint["port"] not in ports:
                yield f"{_name(monitor)} scrapes the port {endpoint['port']}, which its Service does not have."


def routes_lead_to_services(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Routes of the Gateway API hang on a listener and lead to a port of a Service, and every certificate exists."""
    here = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}
    for route in _of_kind(manifests, "HTTPRoute"):
        for parent in route["spec"]["parentRefs"]:
            gateway = here.get(("Gateway", parent["name"]), {"spec": {"listeners": []}})
            listeners = {one["name"]: one for one in gateway["spec"]["listeners"]}
            listener = listeners.get(parent["sectionName"])
            if listener is None:
                yield f"{_name(route)} hangs on {parent['name']}/{parent['sectionName']}, which is no listener."
            elif listener["hostname"] not in route["spec"]["hostnames"]:
                yield f"{_name(route)} does not answer to {listener['hostname']}, as its listener does."
        for backend in (one for rule in route["spec"]["rules"] for one in rule["backendRefs"]):
            service = here.get(("Service", backend["name"]), {"spec": {"ports": []}})
            if backend["port"] not in [port["port"] for port in service["spec"]["ports"]]:
                yield f"{_name(route)} leads to {backend['name']}:{backend['port']}, which is no port of a Service."
            policies = _of_kind(manifests, "BackendTLSPolicy")
            if backend["name"] not in [
                one["name"] for policy in policies for one in policy["spec"]["targetRefs"]
            ]:
                yield f"{_name(route)} leads to {backend['name']} in the clear, for no BackendTLSPolicy is about it."
    certificates = [
        (gateway, {"kind": "Secret", **one})
        for gateway in _of_kind(manifests, "Gateway")
        for listener in gateway["spec"]["listeners"]
        for one in listener.get("tls", {}).get("certificateRefs", [])
    ]
    certificates += [
        (policy, one)
        for policy in _of_kind(manifests, "BackendTLSPolicy")
        for one in policy["spec"]["validation"].get("caCertificateRefs", [])
    ]
    for manifest, one in certificates:
        if (one["kind"], one["name"]) not in here.keys() | MADE_BY_HAND:
            yield f"{_name(manifest)} trusts or shows the {one['kind']} {one['name']}, which nobody makes."


def addresses_are_services(manifests: Sequence[Manifest]) -> Iterator[str]:
    """What a container calls by a name of the namespace, with a port."""
    services = {one["metadata"]["name"]: one for one in _of_kind(manifests, "Service")}
    for name, _, pod in workloads(manifests):
        for container in _containers(pod):
            probes = [
                word
                for probe in _probes(container).values()
                for word in probe.get("exec", {}).get("command", [])
            ]
            variables = [str(one.get("value", "")) for one in container.get("env", [])]
            words = [*container.get("command", []), *container.get("args", []), *variables, *probes]
            for word in words:
                for host, port in re.findall(r"(?:^|//|=)(mediscale-[a-z-]+):(\d+)", word):
                    ports = (
                        [one["port"] for one in services[host]["spec"]["ports"]] if host in services else []
                    )
                    if int(port) not in ports:
                        yield f"{name} calls {host}:{port}, which is no port of a Service."


def _probes(container: Manifest) -> dict[str, Manifest]:
    return {kind: container[kind] for kind in container if kind.endswith("Probe")}


def pods_are_restricted(manifests: Sequence[Manifest]) -> Iterator[str]:
    """The Pod Security Standard "restricted", a root file system that is read-only, and no token of the cluster."""
    for name, _, pod in workloads(manifests):
        spec = pod["spec"]
        context = spec.get("securityContext", {})
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{name} mounts a token of the cluster."
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name} has not the seccomp profile RuntimeDefault."
        for container in _containers(pod):
            own = {**context, **container.get("securityContext", {})}
            if not own.get("runAsNonRoot"):
                yield f"{name} may run as root."
            if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities", {}).get(
                "drop"
            ) != ["ALL"]:
                yield f"{name} may gain privileges or keeps capabilities."
            if not own.get("readOnlyRootFilesystem"):
                yield f"{name} can write its root file system."
            resources = container.get("resources", {})
            if (
                "memory" not in resources.get("limits", {})
                or not {"cpu", "memory"} <= resources.get("requests", {}).keys()
            ):
                yield f"{name} asks for no processor or memory, or has no limit of memory."


def one_namespace(manifests: Sequence[Manifest]) -> Iterator[str]:
    spaces = {namespace["metadata"]["name"]: namespace for namespace in _of_kind(manifests, "Namespace")}
    for manifest in manifests:
        space = manifest["metadata"].get("namespace")
        if manifest["kind"] != "Namespace" and space not in spaces:
            yield f"{_name(manifest)} lies in the namespace {space}, which is not here."
    for name, namespace in spaces.items():
        if namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"Namespace {name} does not enforce the Pod Security Standard restricted."


RULES: tuple[Rule, ...] = (
    services_reach_pods,
    workloads_own_their_pods,
    volumes_exist,
    names_exist,
    bindings_exist,
    probes_have_ports,
    disruptions_leave_room,
    network_is_closed,
    monitors_find_services,
    routes_lead_to_services,
    addresses_are_services,
    pods_are_restricted,
    one_namespace,
)


def main() -> int:
    problems = faults([manifest for manifest in yaml.safe_load_all(sys.stdin) if manifest])
    for fault in problems:
        print(fault)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
