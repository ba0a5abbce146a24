"""The cluster's YAML: known fields, resources that add up, versions that agree, commands that our own parser takes."""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from trawl import cli, recipes, submit, working_dir

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
KUBERAY = CLUSTER / "kuberay"
GROUPS = ("cpu", "vllm-gpu", "training-gpu")

# Names of the fields of ray.io/v1 (KubeRay 1.7) and of core/v1 that our files may use: a misspelt one is not silent.
FIELDS = {
    "RayJob": {
        "entrypoint", "submissionMode", "backoffLimit", "submitterConfig", "shutdownAfterJobFinishes", "metadata",
        "ttlSecondsAfterFinished", "activeDeadlineSeconds", "preRunningDeadlineSeconds", "submitterPodTemplate",
        "rayClusterSpec", "runtimeEnvYAML", "entrypointNumCpus", "entrypointNumGpus", "suspend", "clusterSelector",
    },
    "RayCluster": {
        "rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec",
        "workerGroupSpecs", "gcsFaultToleranceOptions", "suspend",
    },
    "head": {"rayStartParams", "template", "serviceType", "labels", "resources"},
    "group": {
        "groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template", "idleTimeoutSeconds",
    },
    "autoscaler": {"version", "upscalingMode", "idleTimeoutSeconds", "resources", "image", "env", "securityContext"},
    "pod": {
        "serviceAccountName", "securityContext", "tolerations", "containers", "volumes", "nodeSelector",
        "restartPolicy",
    },
    "container": {"name", "image", "ports", "env", "resources", "volumeMounts", "command", "args"},
}  # fmt: skip
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def spec_of(name: str) -> Any:
    found = load(KUBERAY / name)
    return found["spec"]["rayClusterSpec"] if found["kind"] == "RayJob" else found["spec"]


def groups(spec: Any) -> dict[str, Any]:
    return {"head": spec["headGroupSpec"]} | {g["groupName"]: g for g in spec["workerGroupSpecs"]}


def container(group: Any) -> Any:
    (only,) = group["template"]["spec"]["containers"]
    return only


def quantity(text: str) -> int:
    """Bytes of a Kubernetes quantity with a binary unit."""
    return int(text[:-2]) * UNITS[text[-2:]]


def pins(machine: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{machine}.txt").read_text().splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line and not line.lstrip().startswith("#"))


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def images(tree: Any) -> list[str]:
    """Every image that a document names, at any depth."""
    if isinstance(tree, dict):
        own = [v for k, v in tree.items() if k in ("image", "worker_image", "head_image") and isinstance(v, str)]
        return own + [i for v in tree.values() for i in images(v)]
    return [i for v in tree for i in images(v)] if isinstance(tree, list) else []


@pytest.mark.parametrize("path", sorted(CLUSTER.rglob("*.yaml")), ids=lambda p: p.name)
def test_yaml_parses_and_holds_no_secret(path: Path) -> None:
    found = load(path)
    assert isinstance(found, dict)
    assert not re.search(r"(?i)password\s*:|-----BEGIN|AKIA[0-9A-Z]{12}|hf_[A-Za-z0-9]{20}", path.read_text())


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_only_fields_that_kuberay_knows(name: str) -> None:
    found, spec = load(KUBERAY / name), spec_of(name)
    assert found["apiVersion"] == "ray.io/v1"
    assert ("name" in found["metadata"]) != ("generateName" in found["metadata"])
    assert found["spec"].keys() <= FIELDS[found["kind"]]
    assert spec.keys() <= FIELDS["RayCluster"]
    assert spec["autoscalerOptions"].keys() <= FIELDS["autoscaler"]
    assert spec["authOptions"] == {"mode": "token"}
    for kind, group in groups(spec).items():
        assert group.keys() <= FIELDS["head" if kind == "head" else "group"], kind
        assert group["template"]["spec"].keys() <= FIELDS["pod"], kind
        assert container(group).keys() <= FIELDS["container"], kind
        assert all(isinstance(v, str) for v in group["rayStartParams"].values()), "ray start takes strings"


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_groups_scale_and_their_resources_add_up(name: str) -> None:
    spec = spec_of(name)
    assert spec["enableInTreeAutoscaling"] is True
    assert tuple(groups(spec)) == ("head", *GROUPS)
    for kind, group in groups(spec).items():
        resources, start = container(group)["resources"], group["rayStartParams"]
        assert resources["limits"] == resources["requests"], "a pod gets what it asks for and no more"
        gpus = resources["limits"].get("nvidia.com/gpu", "0")
        assert start.get("num-gpus", "0") == gpus
        assert start["num-cpus"] == ("0" if kind == "head" else resources["limits"]["cpu"])
        assert (gpus != "0") == kind.endswith("gpu") == ("tolerations" in group["template"]["spec"])
        assert container(group)["image"].endswith("-cuda" if gpus != "0" else "-cpu")
        if kind != "head":
            assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] > 0
    assert groups(spec)["cpu"]["minReplicas"] >= 1, "the head runs no task"


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_memory_holds_the_object_store_and_disk_the_cache(name: str) -> None:
    for group in groups(spec_of(name)).values():
        limits = container(group)["resources"]["limits"]
        volumes = {v["name"]: v["emptyDir"] for v in group["template"]["spec"]["volumes"]}
        mounts = {m["name"]: m["mountPath"] for m in container(group)["volumeMounts"]}
        assert mounts == {"shm": "/dev/shm", "cache": "/cache"}
        assert volumes["shm"]["medium"] == "Memory"
        shm = quantity(volumes["shm"]["sizeLimit"])
        assert int(group["rayStartParams"]["object-store-memory"]) == shm <= quantity(limits["memory"]) / 2
        assert quantity(volumes["cache"]["sizeLimit"]) < quantity(limits["ephemeral-storage"])
        env = {e["name"]: e for e in container(group)["env"]}
        assert env["TRAWL_NODE_CACHE"]["value"].startswith("/cache/")
        for secret in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"):
            assert env[secret].keys() == {"name", "valueFrom"}, "by reference, never by value"
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"] is True


def test_the_job_runs_on_the_cluster_that_stands_alone_too() -> None:
    assert spec_of("rayjob.yaml") == spec_of("raycluster.yaml")


def test_the_job_ends_its_cluster_and_is_tried_again() -> None:
    spec = load(KUBERAY / "rayjob.yaml")["spec"]
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")
    assert spec["shutdownAfterJobFinishes"] is True
    for key in ("backoffLimit", "ttlSecondsAfterFinished", "activeDeadlineSeconds"):
        assert isinstance(spec[key], int) and spec[key] > 0, key
    assert spec["submitterPodTemplate"]["spec"]["restartPolicy"] == "Never"
    accounts = {g["template"]["spec"]["serviceAccountName"] for g in groups(spec["rayClusterSpec"]).values()}
    assert accounts == {load(KUBERAY / "serviceaccount.yaml")["metadata"]["name"]}


def commands() -> list[tuple[str, list[str]]]:
    """Every command of ours in the manifests and the README, by where it stands."""
    found = [("rayjob.yaml", shlex.split(load(KUBERAY / "rayjob.yaml")["spec"]["entrypoint"]))]
    text = (CLUSTER / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith(("trawl ", "python -m jobs.", "ray job submit ")):
            words = shlex.split(line, comments=True)
            found.append(("README.md", words[words.index("--") + 1 :] if words[0] == "ray" else words))
    return found


def test_the_commands_are_found() -> None:
    assert {"trawl", "python"} == {words[0] for _, words in commands()}
    assert len(commands()) >= 5


@pytest.mark.parametrize(("where", "words"), commands(), ids=lambda v: v if isinstance(v, str) else "_".join(v[:3]))
def test_our_own_parser_takes_every_command(where: str, words: list[str], tmp_path: Path) -> None:
    if words[0] == "python":
        assert words[2] in working_dir.scripts().values()
        args = cli._parser().parse_args(["run", *words[3:]])
    else:
        args = cli._parser().parse_args(words[1:])
    if not hasattr(args, "recipe"):
        return
    assert recipes.load(args.recipe, args.set)
    asked = submit.Request(
        recipe=args.recipe, address="http://head:8265", store=args.store, settings=args.set, name=args.name
    )
    assert submit.prepare(asked, tmp_path).run, f"{where}: a store and inputs that every node sees"


def test_versions_and_images_agree() -> None:
    wanted = {m: f"registry.example.com/trawl:{version()}-ray{pins(m)['ray']}-{m}" for m in ("cpu", "cuda")}
    for path in (KUBERAY / "raycluster.yaml", KUBERAY / "rayjob.yaml", CLUSTER / "aws.yaml"):
        assert set(images(load(path))) == set(wanted.values()), path.name
    for name in ("raycluster.yaml", "rayjob.yaml"):
        assert spec_of(name)["rayVersion"] == pins("cpu")["ray"] == pins("cuda")["ray"]
    for machine, image in wanted.items():
        assert image in (CLUSTER / f"{machine}.Dockerfile").read_text()
        assert image in (CLUSTER / "README.md").read_text()


def test_aws_file_is_what_ray_up_takes() -> None:
    config = load(CLUSTER / "aws.yaml")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    types = config["available_node_types"]
    assert set(types) == {config["head_node_type"], *GROUPS}
    assert types["head"]["resources"]["CPU"] == 0
    assert types["cpu"]["min_workers"] >= 1
    assert sum(t.get("max_workers", 0) for t in types.values()) <= config["max_workers"]
    for name, kind in types.items():
        gpu = name.endswith("gpu")
        assert ("GPU" in kind["resources"]) == gpu
        assert kind.get("docker", {}).get("worker_image", config["docker"]["image"]).endswith("cuda" if gpu else "cpu")
    standing = groups(spec_of("raycluster.yaml"))
    for name in GROUPS:
        bounds = (types[name].get("min_workers"), types[name]["max_workers"])
        assert bounds == (standing[name]["minReplicas"], standing[name]["maxReplicas"]), name


def test_aws_file_is_refused_when_a_field_is_misspelt() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(load(CLUSTER / "aws.yaml") | {"max_worker": 1}, schema)


def test_the_shared_claim_reaches_every_pod() -> None:
    built = load(CLUSTER / "pvc" / "kustomization.yaml")
    changes = yaml.safe_load(built["patches"][0]["patch"])
    claim = load(CLUSTER / "pvc" / "claim.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    spec = {"spec": spec_of("raycluster.yaml")}
    for change in changes:
        assert change["op"] == "add"
        *path, last = change["path"].strip("/").split("/")
        assert last == "-"
        node: Any = spec
        for name in path:
            node = node[int(name)] if isinstance(node, list) else node[name]
        node.append(change["value"])
    for group in groups(spec["spec"]).values():
        assert group["template"]["spec"]["volumes"][-1] == {
            "name": "shared",
            "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]},
        }
        assert container(group)["volumeMounts"][-1] == {"name": "shared", "mountPath": "/shared"}


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on this machine")
@pytest.mark.parametrize("folder", ["kuberay", "pvc"])
def test_kustomize_builds(folder: str) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(CLUSTER / folder)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    kinds = {document["kind"] for document in yaml.safe_load_all(done.stdout)}
    assert kinds >= {"RayCluster", "ServiceAccount"}
