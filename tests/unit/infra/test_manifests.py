"""The home-made check finds nothing in our manifests, and each of its rules finds what it is for."""

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures import dockerfiles

from infra.kubernetes import check, prometheus_rule
from serving.metrics.prometheus_metrics import Metrics
from serving.routes import admin

KUBERNETES = Path(check.__file__).parent
Manifests = list[dict[str, Any]]
FILES = [
    *(
        file
        for folder in ("base", "gateway", "engines", "airflow")
        for file in sorted((KUBERNETES / folder).glob("*.yaml"))
    ),
    KUBERNETES / "monitoring" / "service-monitor.yaml",
]


@cache
def documents() -> tuple[dict[str, Any], ...]:
    """What stands in the files, read once: reading costs a hundred times what a rule does."""
    return tuple(one for file in FILES for one in yaml.safe_load_all(file.read_text()))


def base() -> Manifests:
    """As kustomize puts them together, near enough: in one namespace, with an overlay's settings. Each its own copy."""
    manifests = [
        copy.deepcopy(one) for one in documents() if one["kind"] not in ("Kustomization", "Component")
    ]
    manifests.append({"kind": "ConfigMap", "metadata": {"name": "mediscale-settings"}})
    for one in manifests:
        one["metadata"]["namespace"] = "mediscale"
    return manifests


def get(manifests: Manifests, kind: str, name: str = "mediscale-serving") -> Any:
    (found,) = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def test_the_check_finds_nothing_in_the_base() -> None:
    assert check.faults(base()) == []


def test_a_stages_pod_names_what_the_base_has() -> None:
    pod = yaml.safe_load((KUBERNETES / "stage-pod.yaml").read_text())
    pod["metadata"] |= {"name": "stage", "namespace": "mediscale"}
    assert check.faults([*base(), pod]) == []


def pod(manifests: Manifests) -> Any:
    return get(manifests, "StatefulSet")["spec"]["template"]["spec"]


def container(manifests: Manifests) -> Any:
    return pod(manifests)["containers"][0]


def budget(manifests: Manifests) -> Any:
    return get(manifests, "PodDisruptionBudget")["spec"]


def policy(manifests: Manifests, name: str) -> Any:
    return get(manifests, "NetworkPolicy", name)["spec"]


def route(manifests: Manifests) -> Any:
    return get(manifests, "HTTPRoute")["spec"]


OTHER = {"matchLabels": {"app": "another"}}
BROKEN: dict[str, Callable[[Manifests], object]] = {
    "Service mediscale-serving selects no pod.": lambda m: get(m, "Service")["spec"].update(
        selector={"app": "another"}
    ),
    "Service mediscale-serving leads to the port http, which no container": lambda m: get(m, "Service")[
        "spec"
    ].update(ports=[{"port": 80, "targetPort": "http"}]),
    "StatefulSet mediscale-serving does not select the pods that it makes.": lambda m: get(m, "StatefulSet")[
        "spec"
    ].update(selector=OTHER),
    "StatefulSet mediscale-serving names the Service mediscale-serving, and there is no headless": lambda m: (
        get(m, "StatefulSet")["spec"].update(serviceName="mediscale-serving")
    ),
    "StatefulSet mediscale-serving mounts the volume gone, which": lambda m: container(m)["volumeMounts"].append(
        {"name": "gone", "mountPath": "/gone"}
    ),
    "StatefulSet mediscale-serving has the volume idle, which nothing mounts.": lambda m: pod(m)["volumes"].append(
        {"name": "idle", "emptyDir": {}}
    ),
    "StatefulSet mediscale-serving mounts two volumes at /tmp.": lambda m: container(m)["volumeMounts"].append(
        {"name": "signers", "mountPath": "/tmp"}
    ),
    "names the Secret another, which is neither here": lambda m: pod(m)["volumes"][0]["secret"].update(
        secretName="another"
    ),
    "names the ConfigMap another, which is neither here": lambda m: container(m)["envFrom"][0]["configMapRef"].update(
        name="another"
    ),
    "names the ServiceAccount another, which is neither here": lambda m: pod(m).update(serviceAccountName="another"),
    "names the PersistentVolumeClaim mediscale-home, which is neither here": lambda m: m.remove(
        get(m, "PersistentVolumeClaim", "mediscale-home")
    ),
    "names the Secret unset, which is neither here": lambda m: container(m)["env"].append(
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "unset", "key": "a"}}}
    ),
    "RoleBinding mediscale-airflow names the Role mediscale-airflow, which does not exist.": lambda m: m.remove(
        get(m, "Role", "mediscale-airflow")
    ),
    "has a readinessProbe on the port http, which no container of it has.": lambda m: container(m)["readinessProbe"][
        "httpGet"
    ].update(port="http"),
    "StatefulSet mediscale-serving has no livenessProbe.": lambda m: container(m).pop("livenessProbe"),
    "scales the StatefulSet another, which does not exist.": lambda m: get(m, "HorizontalPodAutoscaler")["spec"][
        "scaleTargetRef"
    ].update(name="another"),
    "PodDisruptionBudget mediscale-serving selects no pod.": lambda m: budget(m).update(selector=OTHER),
    "PodDisruptionBudget mediscale-serving lets no pod go, so that no node": lambda m: budget(m).update(
        maxUnavailable=0
    ),
    "No NetworkPolicy denies everything to every pod.": lambda m: m.remove(get(m, "NetworkPolicy", "default-deny")),
    "NetworkPolicy answers selects no pod.": lambda m: policy(m, "answers").update(podSelector=OTHER),
    "NetworkPolicy answers opens the port 80, which no container": lambda m: policy(m, "answers")["ingress"][0].update(
        ports=[{"port": 80}]
    ),
    "NetworkPolicy answers lets everybody in.": lambda m: policy(m, "answers")["ingress"][0].pop("from"),
    "ServiceMonitor mediscale-serving selects 0 Services, and not one.": lambda m: get(m, "ServiceMonitor")[
        "spec"
    ].update(selector=OTHER),
    "ServiceMonitor mediscale-serving scrapes the port http, which": lambda m: get(m, "ServiceMonitor")["spec"][
        "endpoints"
    ][0].update(port="http"),
    "HTTPRoute mediscale-serving hangs on mediscale/http, which is no listener.": lambda m: route(m)[
        "parentRefs"
    ][0].update(sectionName="http"),
    "HTTPRoute mediscale-serving does not answer to mediscale.hospital.internal": lambda m: route(m).update(
        hostnames=["elsewhere"]
    ),
    "HTTPRoute mediscale-serving leads to mediscale-serving:80, which is no port": lambda m: route(m)["rules"][0][
        "backendRefs"
    ][0].update(port=80),
    "HTTPRoute mediscale-serving leads to mediscale-serving in the clear": lambda m: m.remove(
        get(m, "BackendTLSPolicy")
    ),
    "Gateway mediscale trusts or shows the Secret another, which nobody makes.": lambda m: get(
        m, "Gateway", "mediscale"
    )["spec"]["listeners"][0]["tls"].update(certificateRefs=[{"name": "another"}]),
    "BackendTLSPolicy mediscale-serving trusts or shows the ConfigMap another": lambda m: get(m, "BackendTLSPolicy")[
        "spec"
    ]["validation"]["caCertificateRefs"][0].update(name="another"),
    "Deployment mediscale-spark-worker calls mediscale-spark-master:7077, which is no port": lambda m: m.remove(
        get(m, "Service", "mediscale-spark-master")
    ),
    "StatefulSet mediscale-serving mounts a token of the cluster.": lambda m: pod(m).pop(
        "automountServiceAccountToken"
    ),
    "has not the seccomp profile RuntimeDefault.": lambda m: pod(m)["securityContext"].pop("seccompProfile"),
    "StatefulSet mediscale-serving may run as root.": lambda m: pod(m)["securityContext"].update(runAsNonRoot=False),
    "may gain privileges or keeps capabilities.": lambda m: container(m)["securityContext"].pop("capabilities"),
    "can write its root file system.": lambda m: container(m)["securityContext"].pop("readOnlyRootFilesystem"),
    "asks for no processor or memory, or has no limit of memory.": lambda m: container(m)["resources"].pop("limits"),
    "Service mediscale-serving lies in the namespace other, which is not here.": lambda m: get(m, "Service")[
        "metadata"
    ].update(namespace="other"),
    "Namespace mediscale does not enforce the Pod Security Standard restricted.": lambda m: get(
        m, "Namespace", "mediscale"
    )["metadata"].pop("labels"),
}  # fmt: skip
"""The sentence, and what breaks the base so that it is said."""


@pytest.mark.parametrize("sentence", BROKEN)
def test_a_rule_finds_what_it_is_for(sentence: str) -> None:
    manifests = base()
    BROKEN[sentence](manifests)
    assert any(sentence in fault for fault in check.faults(manifests)), check.faults(manifests)


def test_every_rule_has_a_manifest_that_breaks_it() -> None:
    for rule in check.RULES:
        broken = []
        for damage in BROKEN.values():
            manifests = base()
            damage(manifests)
            broken += list(rule(manifests))
        assert broken, rule.__name__


def test_probes_ask_routes_that_need_no_key() -> None:
    probes = {
        kind: one["httpGet"]["path"] for kind, one in container(base()).items() if kind.endswith("Probe")
    }
    assert probes == {"startupProbe": "/live", "livenessProbe": "/live", "readinessProbe": "/ready"}
    routes = {route.path: route for route in admin.router(None).routes}  # type: ignore[arg-type,attr-defined]
    for path in probes.values():
        assert not routes[path].dependencies, path  # type: ignore[attr-defined]


def test_the_autoscaler_reads_a_metric_that_prometheus_adapter_makes_of_the_servers() -> None:
    kustomization = yaml.safe_load((KUBERNETES / "monitoring" / "kustomization.yaml").read_text())
    (patch,) = yaml.safe_load(kustomization["patches"][0]["patch"])
    (rule,) = yaml.safe_load((KUBERNETES.parent / "helm" / "prometheus-adapter.yaml").read_text())["rules"][
        "custom"
    ]
    assert patch["value"]["pods"]["metric"]["name"] == rule["name"]["as"]
    series = rule["seriesQuery"].partition("{")[0]
    assert f"{series.removesuffix('_bucket')} histogram" in Metrics().exposition().decode()


def test_the_clusters_rules_are_those_that_are_tested() -> None:
    file = KUBERNETES / "monitoring" / "prometheus-rule.yaml"
    assert file.read_text() == prometheus_rule.rendered(), prometheus_rule.__doc__


def test_the_charts_airflow_is_our_image_under_our_account_with_our_claim() -> None:
    values = yaml.safe_load((KUBERNETES.parent / "helm" / "airflow.yaml").read_text())
    image = values["images"]["airflow"]
    (built,) = dockerfiles.tags(KUBERNETES.parent / "docker" / "airflow.Dockerfile")
    assert f"{image['repository'].removeprefix('hospital/')}:{image['tag']}" == built
    assert (
        f"apache-airflow=={values['airflowVersion']}"
        in (KUBERNETES.parents[1] / "pyproject.toml").read_text()
    )
    there = {(one["kind"], one["metadata"]["name"]) for one in base()} | check.MADE_BY_HAND
    assert ("ServiceAccount", values["scheduler"]["serviceAccount"]["name"]) in there
    assert get(base(), "ServiceAccount", "mediscale-airflow")["automountServiceAccountToken"]
    for part in ("scheduler", "dagProcessor", "triggerer"):
        home, template = values[part]["extraVolumes"]
        assert ("PersistentVolumeClaim", home["persistentVolumeClaim"]["claimName"]) in there
        assert ("ConfigMap", template["configMap"]["name"]) in there


def test_the_extract_lies_where_the_nights_look_for_it() -> None:
    values = yaml.safe_load((KUBERNETES.parent / "helm" / "airflow.yaml").read_text())
    (of_airflow,) = [one["value"] for one in values["env"] if one["name"] == "MEDISCALE_PATH"]
    stage = yaml.safe_load((KUBERNETES / "stage-pod.yaml").read_text())["spec"]
    night = check.pod_of(get(base(), "CronJob", "mediscale-night"))
    assert night
    args = night["spec"]["containers"][0]["args"]
    for pod, path in ((stage, of_airflow), (night["spec"], args[args.index("--path") + 1])):
        assert path in [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]


def test_the_charts_airflow_names_a_manager_of_users_that_the_image_has() -> None:
    """The chart's own default is of a provider, whose package no lock of ours has."""
    core = yaml.safe_load((KUBERNETES.parent / "helm" / "airflow.yaml").read_text())["config"]["core"]
    package, _, _ = core["auth_manager"].partition(".api_fastapi.")
    assert package == "airflow"


def test_airflow_may_do_what_its_operator_of_pods_asks_the_cluster_for() -> None:
    granted = {
        (resource, verb)
        for rule in get(base(), "Role", "mediscale-airflow")["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    of_pods = {("pods", verb) for verb in ("create", "get", "list", "watch", "patch", "delete")}
    assert granted == of_pods | {("pods/log", "get"), ("events", "list"), ("events", "watch")}


def test_pods_reach_who_they_are_in_the_cloud() -> None:
    """Terraform's EKS gives a pod its role by an agent on the node, which a closed network would cut off."""
    terraform = KUBERNETES.parent / "terraform"
    assert "eks-pod-identity-agent" in (terraform / "aws" / "cluster.tf").read_text()
    file = KUBERNETES / "overlays" / "production" / "network.yaml"
    policy = next(one for one in yaml.safe_load_all(file.read_text()))
    reached = {
        (block["ipBlock"]["cidr"], port["port"])
        for rule in policy["spec"]["egress"]
        for block in rule["to"]
        for port in rule["ports"]
    }
    assert {("169.254.170.23/32", 80), ("199.36.153.8/30", 443)} <= reached
    assert "199.36.153.8/30" in (terraform / "gcp" / "network.tf").read_text()
