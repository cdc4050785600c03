"""What users copy for Kubernetes, Slurm, Compose and machines reached by ssh holds what a search needs there."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_words import DOCKER, SLURM_OPTIONS, command_lines, kubernetes, programs, read, script

from cifar_tune.plan.load import load_plan
from cifar_tune.tune import _tune_parser

GRACE_SECONDS = 120
SLURM = {"SLURM_JOB_NUM_NODES": "3", "SLURM_JOB_ID": "17", "SLURM_CPUS_ON_NODE": "4"}


def pods() -> list[dict[str, Any]]:
    """The pods of the head and of a worker."""
    cluster = kubernetes("rayjob.yaml", "RayJob")["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@pytest.mark.parametrize("name", command_lines())
def test_each_command_joins_a_cluster_and_goes_on_after_a_stop(name: str) -> None:
    arguments = _tune_parser().parse_args(command_lines()[name])
    assert arguments.resume == "auto"
    assert arguments.address in ("auto", "$RAY_ADDRESS")
    assert arguments.name
    assert load_plan(arguments.config).search.num_samples


def test_a_ray_job_is_tried_again_with_a_token_and_the_version_of_the_lock() -> None:
    spec = kubernetes("rayjob.yaml", "RayJob")["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["entrypoint"] == "bash /scripts/search.sh"
    assert spec["rayClusterSpec"]["rayVersion"] == version("ray")
    assert f"ray=={version('ray')} \\" in (DOCKER / "requirements.lock").read_text()
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_the_pods_run_as_the_image_s_user_and_write_only_to_volumes() -> None:
    submitter = kubernetes("rayjob.yaml", "RayJob")["spec"]["submitterPodTemplate"]["spec"]
    head, worker = pods()
    for pod in (submitter, head, worker):
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert f"USER {pod['securityContext']['runAsUser']}:" in (DOCKER / "Dockerfile").read_text()
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert head["terminationGracePeriodSeconds"] == GRACE_SECONDS
    (wait,) = head["containers"][0]["env"]
    assert wait["name"] == "RAY_JOB_STOP_WAIT_TIME_S"
    assert float(wait["value"]) < GRACE_SECONDS
    assert head["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == [
        "bash",
        "/scripts/stop.sh",
    ]


def test_every_node_has_the_results_and_all_claims_are_in_the_file_of_the_volumes() -> None:
    claims = {claim["metadata"]["name"]: claim["spec"] for claim in read("rayjob-volumes.yaml")}
    used: set[str] = set()
    for pod in pods():
        sources = {volume["name"]: volume for volume in pod["volumes"]}
        assert "/results" in [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
        used |= {
            source["persistentVolumeClaim"]["claimName"]
            for source in sources.values()
            if "persistentVolumeClaim" in source
        }
        assert sources["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    assert used == set(claims)
    assert claims["cifar-tune-results"]["accessModes"] == ["ReadWriteMany"]


def test_the_object_store_fits_into_the_shared_memory() -> None:
    cluster = kubernetes("rayjob.yaml", "RayJob")["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert int(group["rayStartParams"]["object-store-memory"]) < 2 * 2**30


@pytest.mark.parametrize(("ends_with", "shown"), [(0, 0), (2, 2), (3, 0), (4, 4), (143, 143)])
def test_the_ray_job_shows_a_search_with_failed_trials_as_done(
    tmp_path: Path, ends_with: int, shown: int
) -> None:
    path = programs(tmp_path, {"python": f"exit {ends_with}"})
    done = subprocess.run(["bash", script(tmp_path, "search.sh")], env={"PATH": path}, check=False)
    assert done.returncode == shown
    assert not (tmp_path / "search.pid").exists()


@pytest.mark.parametrize("job_stop_first", [False, True])
def test_a_pod_that_ends_gives_the_search_one_signal_and_waits_for_it(
    tmp_path: Path, job_stop_first: bool
) -> None:
    search = (
        f'trap \'echo TERM >> "{tmp_path}/signals"; sleep 1; exit 143\' TERM; touch "{tmp_path}/up"'
        "; while :; do sleep 0.1; done"
    )
    path = programs(tmp_path, {"python": search, "ray": f'echo "$@" > "{tmp_path}/ray.txt"'})
    running = subprocess.Popen(
        ["bash", script(tmp_path, "search.sh")], env={"PATH": path}, start_new_session=True
    )
    wait_for(tmp_path / "up")
    if job_stop_first:  # `ray job stop` signals the job and all that it started
        os.kill(int((tmp_path / "search.pid").read_text()), signal.SIGTERM)
        running.terminate()
        wait_for(tmp_path / "stopping")
    stop = ["bash", script(tmp_path, "stop.sh")]
    subprocess.run(stop, env={"PATH": path}, check=True, timeout=30)
    assert running.wait(timeout=30) == 143
    assert (tmp_path / "signals").read_text() == "TERM\n"
    assert (tmp_path / "ray.txt").read_text().startswith("stop")


def wait_for(path: Path) -> None:
    until = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.05)


def test_the_cluster_in_compose_has_a_token_that_only_the_head_writes_and_no_open_port() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    for name in ("head", "worker", "search-cluster"):
        service = services[name]
        assert service["profiles"] == ["cluster"]
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert Path(service["environment"]["RAY_AUTH_TOKEN_PATH"]).parent == Path("/home/cifar")
        assert "token:/home/cifar" + ("" if name == "head" else ":ro") in service["volumes"]
        assert service["read_only"] is True
        assert "ports" not in service
    assert "results:/results" in services["worker"]["volumes"]
    assert f"--num-cpus={services['worker']['cpus']}" in services["worker"]["entrypoint"]
    assert services["search-cluster"]["stop_grace_period"] == "2m"


def test_the_cluster_reached_by_ssh_keeps_its_token_and_its_dashboard_to_itself() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    (config,) = read("ray-up.yaml")
    validate_config(prepare_config({**config, "file_mounts": {}}))  # the token may not be there
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    (head,) = [line for line in config["head_start_ray_commands"] if "--head" in line]
    (worker,) = [line for line in config["worker_start_ray_commands"] if "--address" in line]
    assert "--dashboard-host=127.0.0.1" in head
    for line in (head, worker):
        assert line.startswith("chmod 600 ~/.ray/auth_token && RAY_AUTH_MODE=token ")


def slurm(tmp_path: Path, search: str) -> tuple[subprocess.Popen[str], Path]:
    """The script where all programs only say how they were called, and `python` runs `search`.

    As the real ones do, `ray` waits for the head, and the count of nodes for the others.
    """
    (tmp_path / "home").mkdir()
    said = tmp_path / "said.txt"
    say = f'echo $(basename "$0") $* >> "{said}"'  # unquoted, so that each call is one line
    joined = f'until grep -q -e --exclude= "{said}"; do sleep 0.05; done'
    python = f'{say}; case "$*" in *token_hex*) echo hush;; *ray.nodes*) {joined};; *cifar_tune*) {search};; esac'
    srun = f'{say}; case "$*" in *rm*) ;; *) exec sleep 60;; esac'
    ray = f'exec grep -q -e " --head " "{said}"'
    path = programs(tmp_path, {"python": python, "ray": ray, "srun": srun, "scontrol": say})
    running = subprocess.Popen(
        ["bash", str(DOCKER / "slurm.sh"), "--config", "asha", "--name", "two words"],
        env={**SLURM, "PATH": path, "HOME": str(tmp_path / "home"), "SLURMD_NODENAME": "node1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return running, said


def test_the_slurm_script_starts_a_head_and_the_other_nodes_and_ends_them(tmp_path: Path) -> None:
    running, said = slurm(tmp_path, "exit 3")
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 3, output
    lines = said.read_text().splitlines()
    steps = [line for line in lines if line.startswith("srun")]  # two of them at the same time
    (head,) = [line for line in steps if " --head " in line]
    (others,) = [line for line in steps if "--exclude=" in line]
    removal = steps[-1]
    assert "--nodelist=node1" in head
    assert "--head --node-ip-address=" in head
    assert "--nodes=2 --ntasks=2 --exclude=node1" in others
    assert removal.endswith("rm -rf /tmp/cifar-tune-17")
    (search,) = [line for line in lines if "cifar_tune.tune" in line]
    assert search.endswith(":20017 --resume auto --config asha --name two words")
    token = tmp_path / "home" / ".ray" / "auth_token"
    assert token.read_text() == "hush\n"
    assert token.stat().st_mode & 0o777 == 0o600
    assert not any("hush" in line or "scontrol" in line for line in lines)


@pytest.mark.parametrize("sent", [signal.SIGUSR1, signal.SIGTERM])
def test_only_the_end_of_its_time_puts_a_stopped_search_into_the_queue_again(
    tmp_path: Path, sent: signal.Signals
) -> None:
    up = tmp_path / "up"
    search = f'trap "sleep 0.5; exit 143" TERM; touch "{up}"; while :; do sleep 0.1; done'
    running, said = slurm(tmp_path, search)
    wait_for(up)
    running.send_signal(sent)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 143, output
    again = "scontrol requeue 17" in said.read_text().splitlines()
    assert again is (sent is signal.SIGUSR1)


def test_slurm_warns_the_script_itself_with_time_to_save() -> None:
    text = (DOCKER / "slurm.sh").read_text()
    (seconds,) = re.findall(r"(?m)^#SBATCH --signal=B:USR1@(\d+)$", text)
    assert int(seconds) > GRACE_SECONDS
    assert re.search(r"(?m)^#SBATCH --requeue$", text)
    assert shlex.join(SLURM_OPTIONS) in text
