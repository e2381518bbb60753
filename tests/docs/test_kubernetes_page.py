"""The manifests of the page about Kubernetes fit together, and their configuration makes a store."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from run_page import blocks
from turnlog import open_store

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "kubernetes.md"
MANIFESTS: dict[str, Any] = {
    manifest["kind"]: manifest
    for block in blocks(PAGE.read_text(encoding="utf-8"))
    if block.kind == "yaml"
    for manifest in yaml.safe_load_all(block.body)
}
FILES: dict[str, str] = MANIFESTS["ConfigMap"]["data"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_config_map_makes_a_store(name: str, tmp_path: Path) -> None:
    table = tomllib.loads(FILES[name])
    password = tmp_path / "password"
    password.write_text("secret", encoding="utf-8")
    assert table["store"]["password_file"].startswith("/run/secrets/chats/")
    table["store"]["password_file"] = str(password)
    store = open_store(config=table)
    assert "postgres.data:5432/chats" in repr(store)


@pytest.mark.parametrize("kind", ["Job", "Deployment"])
def test_a_pod_mounts_the_files_that_it_reads(kind: str) -> None:
    pod = MANIFESTS[kind]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert all(mount["readOnly"] for mount in mounts.values())
    (variable,) = container["env"]
    folder, _, file = variable["value"].rpartition("/")
    assert (variable["name"], folder) == ("TURNLOG_CONFIG", mounts["config"]["mountPath"])
    assert file in FILES
    configured = next(volume for volume in pod["volumes"] if volume["name"] == "config")
    assert configured["configMap"]["name"] == MANIFESTS["ConfigMap"]["metadata"]["name"]
    secret = tomllib.loads(FILES[file])["store"]["password_file"]
    assert secret.rpartition("/")[0] == mounts["passwords"]["mountPath"]


def test_a_pod_may_finish_its_requests_before_it_is_killed() -> None:
    pod = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command = container["command"]
    requests = int(command[command.index("--timeout-graceful-shutdown") + 1])
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > requests + pause
    served = {probe["httpGet"]["path"] for probe in (container["livenessProbe"], container["readinessProbe"])}
    program = next(block for block in blocks(PAGE.read_text(encoding="utf-8")) if block.remark == "file: app.py")
    assert all(f'Route("{path}"' in program.body for path in served)
