#!/usr/bin/env bash
# `ray up clusters/on-premise.yaml` on two hosts made of network namespaces; needs root and openssh-server, iproute2, rsync.
#   bash tests/cluster/run.sh PYTHON      PYTHON has this project's packages and ray[default]; dist/ has its wheel
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1
head=10.77.0.11 worker=10.77.0.12
hosts="head worker"
[[ $EUID -eq 0 ]] || { echo "needs root, for network namespaces"; exit 2; }
for program in ip rsync ssh-keygen unshare /usr/sbin/sshd; do
  command -v "$program" > /dev/null || { echo "needs $program: apt-get install openssh-server iproute2 rsync"; exit 2; }
done
ls dist/fcdd_sweep-*.whl > /dev/null 2>&1 || { echo "needs dist/fcdd_sweep-*.whl: make wheel"; exit 2; }
work=$(mktemp -d /var/tmp/fcdd-cluster-XXXXXX)

address_of() { [[ $1 == head ]] && echo $head || echo $worker; }

clean_up() {
  local code=$?
  set +e
  for name in $hosts; do
    [[ -f $work/$name/unshare.pid ]] && kill -9 "$(cat "$work/$name/unshare.pid")"   # takes the host's processes along
    ip netns del "fcdd-$name"
    ip link del "fcdd-v-$name"
  done
  ip link del fcdd-bridge
  [[ $code -eq 0 ]] && rm -rf "$work" || echo "kept for a look: $work"
  exit $code
} 2> /dev/null
trap clean_up EXIT
trap 'exit 130' INT TERM

start_host() {
  local name=$1
  ip netns exec "fcdd-$name" unshare --mount --pid --uts --ipc --fork --kill-child --propagation private \
    bash tests/cluster/host.sh "$name" "$(address_of "$name")" "$work" "$python" > "$work/$name/log" 2>&1 &
  echo $! > "$work/$name/unshare.pid"
  disown
  for _ in $(seq 50); do
    (: > "/dev/tcp/$(address_of "$name")/22") 2> /dev/null && return
    sleep 0.2
  done
  echo "host $name does not answer:"; cat "$work/$name/log"; exit 1
}

check() {      # check WHAT COMMAND...: says whether the command worked, ends the script when it did not
  local what=$1; shift
  if "$@" > "$work/last.log" 2>&1; then
    echo "passed: $what ($SECONDS s)"
  else
    echo "FAILED: $what"; tail -n 40 "$work/last.log"; exit 1
  fi
}

on_cluster() { "$python" -m ray.scripts.scripts exec --no-config-cache "$work/cluster.yaml" "$1"; }

nodes_are() {  # nodes_are N: waits until the cluster has N nodes
  for _ in $(seq 60); do
    [[ $(on_cluster "ray list nodes --filter state=ALIVE --format json --limit 100" 2> /dev/null | grep -c '"node_id"') -eq $1 ]] && return
    sleep 1
  done
  return 1
}

trials_are() { # trials_are RUN N: N trials are done, each once
  "$python" - "$work/shared/$1/trials.parquet" "$2" <<'PY'
import sys
import pyarrow.parquet as pq
rows = pq.read_table(sys.argv[1]).to_pylist()
done = [row["trial_id"] for row in rows if row["status"] == "done"]
assert len(done) == len(set(done)) == int(sys.argv[2]), [(row["trial_id"], row["status"]) for row in rows]
PY
}

# a network of two hosts
mkdir -p "$work/shared"
ssh-keygen -q -t ed25519 -N "" -f "$work/id"
ip link add fcdd-bridge type bridge
ip addr add 10.77.0.1/24 dev fcdd-bridge
ip link set fcdd-bridge up
for name in $hosts; do
  mkdir "$work/$name"
  ssh-keygen -q -t ed25519 -N "" -f "$work/$name/host_key"
  ip netns add "fcdd-$name"
  ip link add "fcdd-v-$name" type veth peer name eth0 netns "fcdd-$name"
  ip link set "fcdd-v-$name" master fcdd-bridge up
  ip -n "fcdd-$name" addr add "$(address_of "$name")/24" dev eth0
  ip -n "fcdd-$name" link set eth0 up
  ip -n "fcdd-$name" link set lo up
  ip -n "fcdd-$name" route add default via 10.77.0.1      # without it Ray takes 127.0.0.1 for the host's address
  start_host "$name"
done

# the shipped file, with our addresses, user, key and a token of this run alone
export HOME="$work/home"
mkdir -p "$HOME/.ray"
"$python" -c 'import secrets; print(secrets.token_hex(32), end="")' > "$HOME/.ray/auth_token"
chmod 600 "$HOME/.ray/auth_token"
"$python" .ci/constraints.py > "$work/constraints.txt"
sed -e "s/192.0.2.10/$head/; s/192.0.2.11/$worker/; s/ssh_user: fcdd/ssh_user: root/; s#~/.ssh/id_ed25519#$work/id#" \
  -e "s#: constraints.txt#: $work/constraints.txt#" \
  clusters/on-premise.yaml > "$work/cluster.yaml"
export RAY_UP_enable_autoscaler_v2=0 RAY_USAGE_STATS_ENABLED=0

check "ray up" "$python" -m ray.scripts.scripts up -y --no-config-cache "$work/cluster.yaml"
check "both hosts joined" nodes_are 2
check "the wheel is installed" on_cluster "python -c 'import fcdd_sweep; assert \"/fcdd_sweep/venv/\" in fcdd_sweep.__file__'"
# shellcheck disable=SC2016  # RAY_AUTH_TOKEN_PATH is set over there
check "who has another token stays out" on_cluster \
  'echo 0123456789012345678901234567890123456789 > /tmp/wrong; ! RAY_AUTH_TOKEN_PATH=/tmp/wrong ray status'
check "the dashboard hears on localhost only" bash -c "! (: > /dev/tcp/$head/8265) 2> /dev/null"

sweep="cd ~/fcdd_sweep && python -m fcdd_sweep experiments/digits.yaml --address auto --output /mnt/fcdd/shared/runs"
small="--set seeds=1 --set training.epochs=2 --set dataset.classes=[0,1,2,3]"
check "a sweep over both hosts" on_cluster "$sweep $small --set name=small"
check "its four trials are done" trials_are runs/small 4
check "the same command again has nothing to do" on_cluster "$sweep $small --set name=small"

# a host is lost in mid-sweep
long="--set seeds=1 --set training.epochs=60 --set dataset.classes=[0,1,2,3] --set name=lost"
on_cluster "$sweep $long" > "$work/lost.log" 2>&1 &
driver=$!
for _ in $(seq 120); do
  [[ $(find "$work/shared/runs/lost/.attempts" -mindepth 2 -maxdepth 2 2> /dev/null | wc -l) -ge 2 ]] && break
  sleep 0.5
done
sleep 8
kill -9 "$(cat "$work/worker/unshare.pid")"
echo "killed host worker ($SECONDS s)"
check "the sweep ends without it" wait $driver
check "its four trials are done, each once" trials_are runs/lost 4
start_host worker
check "the host comes back and is joined again" nodes_are 2

check "ray down" "$python" -m ray.scripts.scripts down -y "$work/cluster.yaml"
check "no Ray is left" bash -c "! (: > /dev/tcp/$head/6379) 2> /dev/null"
echo "all passed in $SECONDS s"
