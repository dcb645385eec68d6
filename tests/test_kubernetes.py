"""The files of deploy/kubernetes/, as far as text can be checked: nothing is run from them here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dad_edge.line.config import read_line
from dad_edge.triton.address import parse_address

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

FOLDER = Path(__file__).parents[1] / "deploy" / "kubernetes"


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "kustomization.yaml").read_text()))


@pytest.fixture(scope="module")
def resources(base: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    found = {}
    for name in base["resources"]:
        for document in yaml.safe_load_all((FOLDER / name).read_text()):
            key = document["kind"], document["metadata"]["name"]
            assert key not in found
            assert document["apiVersion"]
            found[key] = document
    return found


def pods(resources: dict[tuple[str, str], dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for (kind, name), document in resources.items():
        if kind in ("Deployment", "StatefulSet"):
            yield name, document["spec"]


def test_every_file_is_part_of_the_base(base: dict[str, Any]) -> None:
    named = {*base["resources"], "kustomization.yaml"}
    for generator in base["configMapGenerator"]:
        named |= set(generator["files"])
    assert {path.name for path in FOLDER.iterdir()} == named


def test_selectors_find_the_pods(resources: dict[tuple[str, str], dict[str, Any]]) -> None:
    labels = {name: spec["template"]["metadata"]["labels"] for name, spec in pods(resources)}
    for name, spec in pods(resources):
        assert spec["selector"]["matchLabels"] == labels[name]
    for (kind, name), document in resources.items():
        if kind == "Service":
            assert document["spec"]["selector"] == labels[name]
        if kind == "PodDisruptionBudget":
            assert document["spec"]["selector"]["matchLabels"] == labels[name]
    policy = resources["NetworkPolicy", "triton"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels["triton"]
    assert policy["ingress"][0]["from"][0]["podSelector"]["matchLabels"] == labels["line"]
    target = resources["HorizontalPodAutoscaler", "triton"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in resources


def test_what_a_pod_names_is_there(
    base: dict[str, Any], resources: dict[tuple[str, str], dict[str, Any]]
) -> None:
    images = {image["name"] for image in base["images"]}
    configs = {generator["name"] for generator in base["configMapGenerator"]}
    for name, spec in pods(resources):
        pod = spec["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
        for volume in pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert ("PersistentVolumeClaim", claim) in resources
            if "configMap" in volume:
                assert volume["configMap"]["name"] in configs
        [container] = pod["containers"]
        assert container["image"] in images
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        ports = {port["name"] for port in container["ports"]}
        for probe in ("readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["port"] in ports
        for port in resources["Service", name]["spec"]["ports"]:
            assert port["targetPort"] in ports
        assert "memory" in container["resources"]["limits"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_the_line_asks_the_service(resources: dict[tuple[str, str], dict[str, Any]]) -> None:
    config = read_line(FOLDER / "line.toml")
    [camera] = config.cameras.values()
    [host] = parse_address(camera.engine).hosts
    name, _, port = host.partition(":")
    ports = [each["port"] for each in resources["Service", name]["spec"]["ports"]]
    assert int(port) in ports
    mounts = {
        mount["mountPath"]
        for _, spec in pods(resources)
        for container in spec["template"]["spec"]["containers"]
        for mount in container["volumeMounts"]
    }
    assert str(config.folder_path) in mounts
    assert any(camera.bundle.startswith(f"{mount}/") for mount in mounts)
