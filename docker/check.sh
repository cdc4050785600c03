#!/bin/bash
# Builds the real Dockerfile without a Docker daemon, and runs the image as Docker would.
# Needs root, Debian's buildah, debootstrap, iproute2, and about 40 GB in CHECK_WORK (default: a new
# folder below /var/tmp, deleted at the end; one that is named is kept, and its base is used again).
# CHECK_BUILT=1 takes the image that CHECK_WORK holds from an earlier run.
set -euo pipefail
cd "$(dirname "$0")/.."

IMAGE=localhost/cifar-tune
BASE=localhost/cifar-tune-base
CHECK_TRAINING=(--num-samples 2 --max-epochs 2 --final-seeds 0)
SEARCHING_SECONDS=600 # a loaded machine imports torch for minutes

work=${CHECK_WORK:-$(mktemp -d /var/tmp/cifar-tune-check.XXXXXX)}
mkdir -p "$work/tmp"
export TMPDIR=$work/tmp # buildah's own temporary files are as large as the image

buildah=(buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs)
b() { "${buildah[@]}" "$@"; }

passed() { echo "PASSED  $*"; }

failed() {
    echo "FAILED  $*" >&2
    exit 1
}

equals() { # what it is, value, expected value
    [ "$2" = "$3" ] || failed "$1 is '$2'; expected '$3'"
    passed "$1 is $3"
}

clean_up() {
    b rm --all >/dev/null 2>&1 || true
    if [ -z "${CHECK_WORK:-}" ]; then
        b rmi --all --force >/dev/null 2>&1 || true
        rm -rf "$work"
    fi
}
trap clean_up EXIT

make_base() {
    local from=$SECONDS root=$work/rootfs container
    if ! b inspect --type image "$BASE" >/dev/null 2>&1; then
        [ -d "$root" ] || {
            debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
                bookworm "$root.new" >"$work/debootstrap.log"
            mv "$root.new" "$root"
        }
        tar -C "$root" --exclude='./dev/*' --exclude='./var/cache/apt/*' -cf "$work/base.tar" .
        container=$(b from scratch)
        b add --quiet "$container" "$work/base.tar" / >/dev/null
        b commit --quiet --rm "$container" "$BASE" >/dev/null
    fi
    passed "base: Debian bookworm by debootstrap, as $BASE, $((SECONDS - from)) s"
}

write_secrets() { # the settings of this machine's indexes, for the build alone
    local name
    echo "CHECK_MARK=mark-$RANDOM$RANDOM$RANDOM" >"$work/index" # to be looked for in the image
    for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL UV_INDEX_URL UV_EXTRA_INDEX_URL UV_DEFAULT_INDEX UV_INDEX; do
        if [ -n "${!name:-}" ]; then printf '%s=%q\n' "$name" "${!name}" >>"$work/index"; fi
    done
    cp /etc/ssl/certs/ca-certificates.crt "$work/ca"
}

build() {
    local from=$SECONDS
    if [ -n "${CHECK_BUILT:-}" ]; then return; fi
    write_secrets
    b bud --isolation chroot --build-arg "BASE_IMAGE=$BASE" \
        --secret "id=index,src=$work/index" --secret "id=ca,src=$work/ca" \
        -f docker/Dockerfile -t "$IMAGE" .
    passed "built with buildah bud --isolation chroot, $((SECONDS - from)) s"
    echo "        size $(b images --format '{{.Size}}' "$IMAGE")"
}

check_image() {
    local config secret
    container=$(b from "$IMAGE")
    root=$(b mount "$container")
    # buildah would mount the image's own volumes over those that `run --volume` names.
    b config --volume /data- --volume /results- "$container"
    config=$(b inspect --type image "$IMAGE")
    entry=$(b inspect --type image --format '{{range .OCIv1.Config.Entrypoint}}{{.}} {{end}}' "$IMAGE")
    entry=${entry% }
    equals "the entry point" "$entry" "python -m cifar_tune.tune"
    equals "the user" "$(b inspect --type image --format '{{.OCIv1.Config.User}}' "$IMAGE")" 10001:10001
    equals "the stop signal" "$(b inspect --type image --format '{{.OCIv1.Config.StopSignal}}' "$IMAGE")" SIGTERM
    [ ! -e "$root/src" ] && [ ! -e "$root/run/secrets/ca" ] || failed "sources or secrets are in the image"
    while IFS='=' read -r _ secret; do
        if grep -qF "$secret" <<<"$config" || grep -rqIF "$secret" "$root"/{etc,home,root,tmp,opt}; then
            failed "an index setting is in the image"
        fi
    done <"$work/index"
    passed "the image has no sources, no certificates and no index settings of the build"
}

new_volumes() {
    volumes=$work/volumes
    rm -rf "$volumes"
    mkdir -p "$volumes/data" "$volumes/results"
    chown 10001:10001 "$volumes/data" "$volumes/results"
}

# Without network, as with `docker run --network none`: only the loopback interface.
offline() { unshare --net sh -c 'ip link set lo up && exec "$@"' offline "$@"; }

run_image() {
    local from=$SECONDS code=0
    # shellcheck disable=SC2086  # the entry point is words
    offline "${buildah[@]}" run --isolation chroot \
        --volume "$volumes/data:/data" --volume "$volumes/results:/results" \
        "$container" -- $entry --config quickstart "${CHECK_TRAINING[@]}" || code=$?
    equals "the exit code of the quick search" "$code" 0
    check_results "$volumes/results/quickstart-1"
    equals "the owner of the results" "$(stat -c %u "$volumes/results/quickstart-1/summary.json")" 10001
    passed "the quick search ran with buildah run as user 10001, $((SECONDS - from)) s"
}

check_results() {
    local file
    for file in journal.jsonl summary.json trials.csv report.html best/model.pt2; do
        [ -s "$1/$file" ] || failed "$1 has no $file"
    done
    passed "$(basename "$1") has its journal, summary, table, page and model"
}

# As `docker run --read-only --tmpfs /tmp --shm-size 2g` with two volumes: namespaces of its own for
# mounts, processes (the command is process 1) and the network.
read_only() { # user, words of the command
    local user=$1
    shift
    mapfile -t settings < <(b inspect --type image --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' "$IMAGE" | sed '/^$/d')
    exec unshare --mount --pid --net --fork --kill-child bash -euc '
        root=$1 volumes=$2 user=$3
        shift 3
        ip link set lo up
        mount --bind "$root" "$root"
        mount -o remount,bind,ro "$root"
        mount -t proc proc "$root/proc"
        mount -t tmpfs -o mode=755 tmpfs "$root/dev"
        for device in null zero full random urandom; do
            touch "$root/dev/$device" && mount --bind "/dev/$device" "$root/dev/$device"
        done
        like_docker=mode=1777,noexec,nosuid,nodev
        mkdir "$root/dev/shm" && mount -t tmpfs -o $like_docker,size=2g tmpfs "$root/dev/shm"
        mount -o remount,ro "$root/dev"
        mount -t tmpfs -o $like_docker tmpfs "$root/tmp"
        mount --bind "$volumes/data" "$root/data"
        mount --bind "$volumes/results" "$root/results"
        exec chroot --userspec="$user" "$root" "$@"
    ' read_only "$root" "$volumes" "$user" env -i "${settings[@]}" "$@"
}

run_read_only() {
    local from=$SECONDS code=0
    # As root, whom permissions do not hold back.
    (read_only 0:0 sh -c 'touch /data/probe /results/probe /tmp/probe /dev/shm/probe
        for folder in / /home/cifar /opt/cifar_tune /var/tmp /run /etc /dev; do
            touch $folder/probe 2>/dev/null && exit 1
        done
        rm /data/probe /results/probe') || failed "the root is not read-only"
    passed "only the volumes, /tmp and /dev/shm can be written, even by root"
    # shellcheck disable=SC2086
    (read_only 10001:10001 $entry --config quickstart --name read-only "${CHECK_TRAINING[@]}") || code=$?
    equals "the exit code with a read-only root" "$code" 0
    check_results "$volumes/results/read-only"
    passed "the quick search ran as user 10001 with a read-only root, $((SECONDS - from)) s"
}

stop_by_signal() { # as `docker stop` does: SIGTERM to process 1
    local code=0 outer first sent output=$work/stopped.txt
    local journal=$volumes/results/stopped/journal.jsonl
    local words=($entry --config quickstart --name stopped --resume auto --num-samples 3 --max-epochs 4 --final-seeds 0)
    (read_only 10001:10001 "${words[@]}") >"$output" 2>&1 &
    outer=$!
    for ((second = 0; second < SEARCHING_SECONDS; second++)); do
        if grep -q '"event": *"result"' "$journal" 2>/dev/null; then break; fi
        kill -0 "$outer" 2>/dev/null || { cat "$output"; failed "the search ended before the signal"; }
        sleep 1
    done
    first=$(ps -o pid= --ppid "$outer" | tr -d ' ')
    [ -n "$first" ] || failed "process 1 of the container was not found"
    sent=$(date +%s.%N)
    kill -TERM "$first"
    wait "$outer" || code=$?
    cat "$output"
    equals "the exit code after SIGTERM" "$code" 143
    passed "SIGTERM to exit: $(date +%s.%N | awk -v sent="$sent" '{printf "%.1f", $1 - sent}') s"
    grep -q 'everything reported is saved' "$output" || failed "it does not say that all is saved"
    local recorded=$work/recorded.jsonl
    cp "$journal" "$recorded"
    code=0
    (read_only 10001:10001 "${words[@]}") || code=$?
    equals "the exit code of the same command afterwards" "$code" 0
    cmp -n "$(stat -c %s "$recorded")" "$recorded" "$journal" || failed "recorded results changed"
    check_results "$volumes/results/stopped"
    passed "the search went on from $(grep -c '"event": *"result"' "$recorded") recorded results"
}

make_base
build
check_image
new_volumes
run_image
run_read_only
stop_by_signal
passed "all of docker/check.sh, $SECONDS s"
