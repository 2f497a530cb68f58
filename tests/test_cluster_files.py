"""The cluster files: what Ray, EC2, a shell and KubeRay would say of them, as far as it can be asked here."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import boto3
import botocore.session
import pytest
import yaml
from botocore.model import ListShape, StructureShape
from botocore.validate import ParamValidator

from fcdd_sweep import cli, load_experiment
from tests import s3

ROOT = Path(__file__).parents[1]
CLUSTERS = ["cluster.yaml", "clusters/on-premise.yaml"]
REGION = "eu-central-1"


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


def pinned(name):
    return re.search(rf"^{name}==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE).group(1)


def version():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def run_instances():
    """The shape of what EC2's RunInstances takes."""
    return botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape


def strangers(value, shape, where=""):
    """Values that botocore's own check lets pass although EC2 has a closed list of them."""
    if isinstance(shape, StructureShape):
        for name, inner in value.items():
            yield from strangers(inner, shape.members[name], f"{where}.{name}")
    elif isinstance(shape, ListShape):
        for inner in value:
            yield from strangers(inner, shape.member, where)
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{where}: {value}"


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_accepts_the_file_and_installs_nothing_of_its_own(name):
    from ray.autoscaler._private.util import prepare_config, validate_config

    given = read(name)
    prepared = prepare_config(read(name))
    validate_config(prepared)
    # a key left out is filled in, for setup_commands with a nightly build of Ray
    assert prepared["setup_commands"] == given["setup_commands"]
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert prepared[commands] == given[commands]
    assert prepared["max_workers"] >= 1
    assert prepared["available_node_types"][prepared["head_node_type"]] is not None


def test_ray_refuses_a_key_that_it_does_not_know():
    """The check above can fail."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(Exception, match="min_worker_count"):
        validate_config(prepare_config({**read("cluster.yaml"), "min_worker_count": 1}))


@pytest.mark.parametrize("name", CLUSTERS)
def test_both_kinds_of_node_start_with_the_token_and_the_dashboard_hears_on_localhost_only(name):
    config = read(name)
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token ray start" in commands[-1]
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_node_gets_the_wheel_of_this_version_and_a_cache_of_its_own(name):
    config = read(name)
    for target, source in config["file_mounts"].items():
        if source not in ("dist", "~/.ray/auth_token"):
            assert (ROOT / source).exists(), source
        assert target.startswith("~/"), target
    installed = " ".join(config["setup_commands"])
    assert "-c ~/fcdd_sweep/constraints.txt" in installed
    assert "~/fcdd_sweep/dist/*.whl" in installed and "ray[default]" in installed
    assert "FCDD_SWEEP_CACHE=" in installed


@pytest.mark.parametrize("name", ["cluster.yaml", "clusters/on-premise.yaml"])
def test_every_command_is_sound_shell(name):
    config = read(name)
    kinds = ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    for command in [each for kind in kinds for each in config[kind]]:
        subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.parametrize("kind", ["head", "gpu_spot"])
def test_ec2_takes_each_kind_of_machine(kind):
    config = {**read("cluster.yaml")["available_node_types"][kind]["node_config"], "MinCount": 1, "MaxCount": 1}
    report = ParamValidator().validate(config, run_instances())
    assert not report.has_errors(), report.generate_report()
    assert list(strangers(config, run_instances())) == []


@pytest.mark.parametrize("wrong", [{"InstanceType": "g5.xlarg"}, {"InstanceMarketOptions": {"MarketType": "spott"}}])
def test_a_value_that_ec2_does_not_know_is_seen(wrong):
    assert len(list(strangers(wrong, run_instances()))) == 1


def test_the_head_runs_no_trials_and_both_kinds_reach_the_bucket_with_the_same_role():
    kinds = read("cluster.yaml")["available_node_types"]
    assert kinds["head"]["resources"] == {"CPU": 0}
    assert kinds["gpu_spot"]["min_workers"] == 0
    roles = [kind["node_config"]["IamInstanceProfile"] for kind in kinds.values()]
    assert roles == [{"Name": "fcdd-sweep"}] * 2
    policy = json.loads((ROOT / "clusters" / "aws-policy.json").read_text())
    allowed = {action for each in policy["Statement"] for action in listed(each["Action"])}
    assert {"s3:PutObject", "s3:ListBucket", "ec2:RunInstances", "iam:PassRole", "ssm:GetParameters"} <= allowed
    ends = [each for each in policy["Statement"] if "ec2:TerminateInstances" in each["Action"]]
    own = {"StringEquals": {"aws:ResourceTag/ray-cluster-name": read("cluster.yaml")["cluster_name"]}}
    assert [each.get("Condition") for each in ends] == [own]  # the machines of others are left alone


def listed(value):
    return value if isinstance(value, list) else [value]


@pytest.fixture
def aws(tmp_path, monkeypatch):
    """AWS on loopback, and no credentials or settings of the user."""
    (tmp_path / ".ssh").mkdir()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    server = s3.Server()
    own = {"HOME": str(tmp_path), "AWS_DEFAULT_REGION": REGION, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}"}
    for name, value in {**s3.CREDENTIALS, **own}.items():
        monkeypatch.setenv(name, value)
    yield
    server.stop()


def make_role():
    """As docs/clusters.md says."""
    iam = boto3.client("iam")
    page = (ROOT / "docs" / "clusters.md").read_text()
    (trust,) = re.findall(r"--assume-role-policy-document '(.+)'", page)
    iam.create_role(RoleName="fcdd-sweep", AssumeRolePolicyDocument=trust)
    policy = (ROOT / "clusters" / "aws-policy.json").read_text()
    iam.put_role_policy(RoleName="fcdd-sweep", PolicyName="fcdd-sweep", PolicyDocument=policy)
    iam.create_instance_profile(InstanceProfileName="fcdd-sweep")
    iam.add_role_to_instance_profile(InstanceProfileName="fcdd-sweep", RoleName="fcdd-sweep")


@pytest.mark.slow
@pytest.mark.long
def test_ray_starts_head_and_spot_machines_as_the_file_says(aws):
    from ray.autoscaler._private.commands import _bootstrap_config
    from ray.autoscaler._private.providers import _get_node_provider

    make_role()
    config = _bootstrap_config(read("cluster.yaml"), no_config_cache=True)
    kinds = config["available_node_types"]
    assert kinds["head"]["resources"]["CPU"] == 0
    assert kinds["gpu_spot"]["resources"]["GPU"] == 1 and kinds["gpu_spot"]["resources"]["CPU"] == 4
    profiles = [
        each["InstanceProfileName"] for each in boto3.client("iam").list_instance_profiles()["InstanceProfiles"]
    ]
    assert profiles == ["fcdd-sweep"]  # Ray made none of its own, which would be for the head alone
    provider = _get_node_provider(config["provider"], config["cluster_name"])
    for kind, role in (("head", "head"), ("gpu_spot", "worker")):
        tags = {"ray-node-type": role, "ray-node-name": kind, "ray-user-node-type": kind}
        provider.create_node(kinds[kind]["node_config"], tags, 1)
    found = boto3.client("ec2").describe_instances()["Reservations"]
    by_type = {each["Instances"][0]["InstanceType"]: each["Instances"][0] for each in found}
    assert set(by_type) == {"m6i.xlarge", "g5.xlarge"}
    assert by_type["g5.xlarge"]["InstanceLifecycle"] == "spot"
    assert by_type["m6i.xlarge"].get("InstanceLifecycle") != "spot"
    for machine in by_type.values():
        assert machine["IamInstanceProfile"]["Arn"].endswith("instance-profile/fcdd-sweep")
    (key,) = (Path.home() / ".ssh").glob("*.pem")
    assert config["auth"]["ssh_private_key"] == str(key)


def test_a_slurm_job_hands_its_token_on_and_hears_the_end_of_its_time():
    path = ROOT / "clusters" / "slurm.sbatch"
    text = path.read_text()
    subprocess.run(["bash", "-n", path], check=True)
    exported = text.index("export RAY_AUTH_MODE RAY_AUTH_TOKEN")
    assert exported < text.index('"${step[@]}"') and exported < text.index("-m fcdd_sweep")
    assert "step=(srun --overlap " in text
    assert len(re.findall(r"\bsrun\b(?! (?:--overlap|does|hands))", text.replace("`srun`", ""))) == 0
    assert '"$@" --address "$head_ip:$port"' in text
    given = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", text, re.MULTILINE))
    assert given["signal"].startswith("B:USR1@")  # to the script alone, which stops the driver in time
    assert "trap" in text and "USR1" in text.split("trap", 1)[1].splitlines()[0]
    assert "requeue" in given and given["open-mode"] == "append"


SLURM_JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "2", "SLURMD_NODENAME": "n1"}
"""What Slurm sets in a job that the script reads."""


def run_slurm_job(tmp_path, ending, start="exec sleep 60", **more_stand_ins):
    """The whole script, with stand-ins for Slurm, Ray and the sweep: its end, and what they were called with."""
    log = tmp_path / "log"
    python = f"""
case "$1 $2" in
  "-c "*) echo secret ;;
  "-m ray.scripts.scripts")
    echo "ray $3 $RAY_AUTH_MODE $RAY_AUTH_TOKEN" >> {log}
    case $3 in
      start) {start} ;;
      health-check) grep -q "^ray start" {log} && [[ "{start}" != exit* ]] ;;
    esac ;;
  "-m fcdd_sweep")
    until [[ $(grep -c "^ray start" {log}) -eq 2 ]]; do sleep 0.05; done
    echo "sweep $*" >> {log}
    trap 'kill $!; exit 130' TERM
    case {ending} in
      canceled) kill -TERM $PPID; sleep 30 & wait ;;
      end) exit 0 ;;
      fail) exit 1 ;;
      signal) kill -USR1 $PPID; sleep 30 & wait ;;
    esac ;;
esac"""
    stand_ins = {
        "python": python,
        "srun": 'while [[ $1 == -* ]]; do shift; done; exec "$@"',
        "scontrol": f'echo "scontrol $*" >> {log}',
        **more_stand_ins,
    }
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "USER"},  # which not every site sets
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "FCDD_SWEEP_PYTHON": str(tmp_path / "python"),
        **SLURM_JOB,
    }
    script = [shutil.which("bash"), ROOT / "clusters" / "slurm.sbatch", "x.yaml", "--set", "seeds=1"]
    ended = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=50)
    return ended, log.read_text().splitlines()


@pytest.mark.parametrize(
    "ending,code,requeued", [("end", 0, False), ("fail", 1, False), ("signal", 130, True), ("canceled", 130, False)]
)
@pytest.mark.slow
def test_a_slurm_job_ends_with_the_sweeps_code_and_queues_again_when_its_time_is_up(tmp_path, ending, code, requeued):
    ended, lines = run_slurm_job(tmp_path, ending)
    assert ended.returncode == code, ended.stderr
    assert lines.count("ray start token secret") == 2
    assert any(
        re.fullmatch(r"sweep -m fcdd_sweep x\.yaml --set seeds=1 --address [\d.]+:20007", line) for line in lines
    )
    assert ("scontrol requeue 7" in lines) == requeued


def test_a_slurm_job_on_a_host_that_no_name_service_knows_takes_its_own_address(tmp_path):
    own_address = '[[ $* == -I ]] && echo "10.1.2.3 fe80::1" || echo n1'
    ended, lines = run_slurm_job(tmp_path, "end", getent="exit 2", hostname=own_address)
    assert ended.returncode == 0, ended.stderr
    assert "sweep -m fcdd_sweep x.yaml --set seeds=1 --address 10.1.2.3:20007" in lines


def test_a_slurm_job_whose_head_does_not_start_says_so_and_runs_no_sweep(tmp_path):
    ended, lines = run_slurm_job(tmp_path, "end", start="exit 1")
    assert ended.returncode == 1
    assert "Ray's head did not start on " in ended.stderr
    assert not [line for line in lines if line.startswith(("sweep", "scontrol"))]


@pytest.mark.parametrize(
    "environment, said",
    [
        ({}, "this is a script of a Slurm job, and SLURM_JOB_ID is not set. Submit it: sbatch "),
        (SLURM_JOB, "there is no program {folder}/.venv/bin/python. Run `make setup` in the folder of the project and"),
        (SLURM_JOB | {"FCDD_SWEEP_PYTHON": "/nowhere/python"}, "there is no program /nowhere/python."),
    ],
)
def test_a_slurm_script_outside_slurm_or_without_its_python_says_what_is_missing(tmp_path, environment, said):
    script = [shutil.which("bash"), ROOT / "clusters" / "slurm.sbatch", "x.yaml"]
    ended = subprocess.run(script, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 2 and ended.stderr.startswith(f"error: {said.format(folder=tmp_path)}")
    assert ended.stderr.count("\n") == 1


# Fields of KubeRay 1.6 (ray-operator/apis/ray/v1); an unknown one is dropped by the server without a word.
RAY_JOB = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint", "entrypointNumCpus",
    "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata", "rayClusterSpec", "runtimeEnvYAML",
    "shutdownAfterJobFinishes", "submissionMode", "submitterConfig", "submitterPodTemplate", "suspend",
    "ttlSecondsAfterFinished",
}  # fmt: skip
RAY_CLUSTER = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec",
    "headServiceAnnotations", "managedBy", "rayVersion", "suspend", "upgradeStrategy", "workerGroupSpecs",
}  # fmt: skip
AUTOSCALER = {
    "env", "envFrom", "idleTimeoutSeconds", "image", "imagePullPolicy", "resources", "securityContext", "upscalingMode",
    "version", "volumeMounts",
}  # fmt: skip
HEAD = {
    "enableIngress", "headService", "labels", "rayStartParams", "resources", "serviceType", "template",
}  # fmt: skip
WORKERS = {
    "groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams",
    "replicas", "resources", "scaleStrategy", "suspend", "template",
}  # fmt: skip


def test_kuberay_knows_every_field_and_none_is_missing():
    job = read("clusters/kubernetes.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert set(job["spec"]) <= RAY_JOB
    assert set(cluster) <= RAY_CLUSTER
    assert set(cluster["autoscalerOptions"]) <= AUTOSCALER
    assert set(cluster["headGroupSpec"]) <= HEAD and {"rayStartParams", "template"} <= set(cluster["headGroupSpec"])
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= WORKERS
        assert {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"} <= set(group)
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for values in (cluster["headGroupSpec"]["rayStartParams"], cluster["workerGroupSpecs"][0]["rayStartParams"]):
        assert all(isinstance(value, str) for value in values.values())  # KubeRay takes texts only


def test_all_pods_run_one_image_of_the_tested_versions():
    cluster = read("clusters/kubernetes.yaml")["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    images = {container["image"] for pod in pods for container in pod["containers"]}
    assert images == {f"REGISTRY/fcdd_sweep:{version()}"}
    assert cluster["rayVersion"] == pinned("ray")
    dockerfile = (ROOT / "clusters" / "Dockerfile").read_text()
    assert f"FROM rayproject/ray:{pinned('ray')}-py311-gpu\n" in dockerfile
    assert f"-t REGISTRY/fcdd_sweep:{version()} " in dockerfile
    for pod in pods:
        mounts = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}
        assert pod["serviceAccountName"] == "fcdd-sweep"
        (container,) = pod["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert "FCDD_SWEEP_CACHE" in {each["name"] for each in container["env"]}


def commands_of_ours():
    """What follows `-m fcdd_sweep` or the job script, in the entrypoint and in the page."""
    yield read("clusters/kubernetes.yaml")["spec"]["entrypoint"].partition(" -m fcdd_sweep ")[2]
    page = (ROOT / "docs" / "clusters.md").read_text()
    for block in re.findall(r"```\n(.+?)```", page, flags=re.DOTALL):
        yield from re.findall(r"(?:-m fcdd_sweep|slurm\.sbatch) ([^'|\n]+)", block)


def test_commands_of_ours_are_commands():
    found = [command.split() for command in commands_of_ours()]
    assert len(found) == 12
    for arguments in found:
        options = cli.make_parser().parse_args(cli._with_command(arguments))
        if hasattr(options, "experiment"):
            assert (ROOT / str(options.experiment).removeprefix("~/fcdd_sweep/")).is_file()
            load_experiment(ROOT / "experiments" / options.experiment.name, options.set)
