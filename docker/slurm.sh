#!/bin/bash
# A search on a Slurm allocation; options of a search follow the script's name:
#   sbatch docker/slurm.sh --config asha --name mine --out /shared/results
# `--out` and your home must lie on file systems that all nodes share. Submit it with the venv active, or
# with PYTHON=/path/to/.venv/bin/python. For GPUs: sbatch --gpus-per-node=8 docker/slurm.sh ...
# To save and stop: scancel --batch --signal=TERM ID; with USR1 it is queued again. A plain `scancel` ends Ray
# at the same moment: what was reported is kept, the rest of the running epochs is not.
# Token: ~/.ray/auth_token, made once, readable by you alone; every node reads it from the shared home.
#SBATCH --job-name=cifar-tune
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=04:00:00
#SBATCH --open-mode=append
#SBATCH --requeue
# SIGUSR1 to this script three minutes before the time is up: the search saves, and the job is queued again.
#SBATCH --signal=B:USR1@180
set -euo pipefail

export PYTHON=${PYTHON:-$(command -v python)}
START_SECONDS=${START_SECONDS:-600} # for all nodes to join
nodes=${SLURM_JOB_NUM_NODES:?run this script with sbatch}
first=${SLURMD_NODENAME:-$(hostname -s)} # where this script runs
ip=${HEAD_IP:-$(hostname -I | cut -d' ' -f1)}
port=$((20000 + SLURM_JOB_ID % 10000)) # two jobs may share a node
export RAY_ADDRESS=$ip:$port
export RAY_TMPDIR=/tmp/cifar-tune-$SLURM_JOB_ID # others may own /tmp/ray
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token

if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    (umask 077 && mkdir -p "$HOME/.ray" &&
        "$PYTHON" -c 'import secrets; print(secrets.token_hex(32))' >"$RAY_AUTH_TOKEN_PATH")
fi
chmod 600 "$RAY_AUTH_TOKEN_PATH"

# Ray's part of the allocation is Slurm's count on each node: by itself Ray would take the whole node.
# shellcheck disable=SC2016 # these variables are the node's
on_node='mkdir -p -m 700 "$RAY_TMPDIR"
    exec "$(dirname "$PYTHON")/ray" start --block --disable-usage-stats \
        --num-cpus="${SLURM_CPUS_ON_NODE:?}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" "$@"'

steps=()
search=
end_ray() {
    trap - EXIT
    kill "${steps[@]}" 2>/dev/null || true
    wait "${steps[@]}" 2>/dev/null || true
    srun --overlap --ntasks-per-node=1 rm -rf "$RAY_TMPDIR" || true
}
trap end_ray EXIT
stopped= requeue=
trap 'requeue=1 stopped=1; kill -TERM $search 2>/dev/null || exit 143' USR1
trap 'stopped=1; kill -TERM $search 2>/dev/null || exit 143' TERM

srun --overlap --cpu-bind=none --nodes=1 --ntasks=1 --nodelist="$first" bash -c "$on_node" head \
    --head --node-ip-address="$ip" --port="$port" --include-dashboard=false &
steps+=($!)
ray_is_up() { "$(dirname "$PYTHON")/ray" health-check --address "$RAY_ADDRESS" >/dev/null 2>&1; }
until ray_is_up; do
    if [ "$SECONDS" -gt "$START_SECONDS" ] || ! kill -0 "${steps[0]}" 2>/dev/null; then
        echo "no Ray at $RAY_ADDRESS after $SECONDS s; HEAD_IP=ADDRESS names another address of $first" >&2
        exit 1
    fi
    sleep 2
done
if [ "$nodes" -gt 1 ]; then
    srun --overlap --cpu-bind=none --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --exclude="$first" \
        bash -c "$on_node" worker --address="$RAY_ADDRESS" &
    steps+=($!)
fi

"$PYTHON" -c '
import sys, time
import ray
nodes, seconds = int(sys.argv[1]), int(sys.argv[2])
ray.init(log_to_driver=False)
deadline = time.monotonic() + seconds
while (joined := sum(node["Alive"] for node in ray.nodes())) < nodes:
    if time.monotonic() > deadline:
        sys.exit(f"{joined} of {nodes} nodes joined Ray in {seconds} s")
    time.sleep(1)
' "$nodes" $((START_SECONDS - SECONDS))

"$PYTHON" -m cifar_tune.tune --address "$RAY_ADDRESS" --resume auto "$@" &
search=$!
code=0
wait "$search" || code=$?
while [ -n "$stopped" ]; do # a signal ends `wait` before the search has ended
    stopped=
    code=0
    wait "$search" || code=$?
done
end_ray
# 143 is: stopped, all saved. Only the time limit queues the job again, `scancel` does not.
# 3 is: done, but some trials failed. Slurm shows it as FAILED and does not start the job again;
# once the cause is mended, `cifar-tune retry-failed` tries those trials.
if [ "$code" -eq 143 ] && [ -n "$requeue" ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
