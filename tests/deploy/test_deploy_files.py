"""What deploy/ names exists: settings, metrics, paths. Images are not built and manifests not applied here."""

import json
import re
from pathlib import Path

import yaml

from serving.gate import OPEN
from serving.observability import Metrics
from serving.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = [path for path in DEPLOY.rglob("*") if path.is_file() and path.name != "README.md"]


def test_every_setting_that_is_named_is_one() -> None:
    known = {f"RECSYS_{name.upper()}" for name in Settings.model_fields}
    named = {
        name for path in FILES for name in re.findall(r"RECSYS_[A-Z_]+", path.read_text(encoding="utf-8"))
    }
    assert named
    assert named <= known


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    told = Metrics(lambda: 0).exposition().decode()
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", told, re.MULTILINE))
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"recsys_\w+", target["expr"])
    }
    assert len(asked) > 10
    for name in asked:
        assert name in kinds or re.sub(r"_(bucket|sum|count)$", "", name) in kinds, name


def test_manifests_parse_and_probe_paths_that_are_open() -> None:
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "metaq.yaml").read_text()))
    assert [document["kind"] for document in documents][:2] == ["StatefulSet", "Service"]
    (container,) = documents[0]["spec"]["template"]["spec"]["containers"]
    probes = [
        container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")
    ]
    assert set(probes) <= OPEN
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert set(services) == {"endpoint", "postgres", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for each in services.values() for port in each.get("ports", ()))
    for path in DEPLOY.rglob("*.yaml"):
        assert list(yaml.safe_load_all(path.read_text()))
