#!/usr/bin/env bash
# clusters/on-premise.yaml on two hosts made of network namespaces, by the commands of docs/clusters.md, word for word.
# Needs root, and openssh-server, iproute2, rsync.
#   bash tests/cluster/run.sh PYTHON      PYTHON has this project's packages and ray[default]; dist/ has its wheel
set -euo pipefail
python=$(realpath -s "$1")
cd "$(dirname "$0")/../.."
head=10.77.0.11 worker=10.77.0.12
hosts="head worker"
[[ $EUID -eq 0 ]] || { echo "needs root, for network namespaces"; exit 2; }
for program in ip rsync ssh ssh-keygen unshare /usr/sbin/sshd; do
  command -v "$program" > /dev/null || { echo "needs $program: apt-get install openssh-server iproute2 rsync"; exit 2; }
done
ls dist/fcdd_sweep-*.whl > /dev/null 2>&1 || { echo "needs dist/fcdd_sweep-*.whl: make wheel"; exit 2; }
work=$(mktemp -d /var/tmp/fcdd-cluster-XXXXXX)

address_of() { [[ $1 == head ]] && echo $head || echo $worker; }

inside() {     # inside HOST COMMAND
  ssh -n -i "$work/id" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=5 \
    "root@$(address_of "$1")" "$2"
}

clean_up() {
  local code=$?
  set +e
  [[ $code -eq 0 ]] || inside head 'tail -n 30 /tmp/ray/session_latest/logs/monitor.*' > "$work/monitor.log"
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
  for _ in $(seq 150); do
    (: > "/dev/tcp/$(address_of "$name")/22") 2> /dev/null && return
    sleep 0.2
  done
  echo "host $name does not answer:"; cat "$work/$name/log"; exit 1
}

check() {      # check WHAT COMMAND...: says whether the command worked, ends the script when it did not
  local what=$1; shift
  if "$@" > "$work/last.log" 2>&1 < /dev/null; then
    echo "passed: $what ($SECONDS s)"
  else
    echo "FAILED: $what"; tail -n 40 "$work/last.log"; exit 1
  fi
}

# documented WORDS [REPLACEMENT]: runs the one command of the page's section that has WORDS, after `sed REPLACEMENT`
documented() {
  local command
  command=$(sed -n '/^## Your own machines/,/^## /p' docs/clusters.md | grep -E '^(ray|rsync) ' | grep -F -- "$1")
  [[ $(wc -l <<< "$command") -eq 1 ]] || { echo "docs/clusters.md has not one command with '$1': $command"; return 1; }
  (cd "$work/project" && timeout 600 bash -c "$(sed "${2:-}" <<< "$command")")
}

within() {     # within SECONDS COMMAND...: again and again until it works
  local until=$((SECONDS + $1)); shift
  until "$@" > "$work/within.log" 2>&1; do
    ((SECONDS < until)) || { cat "$work/within.log"; return 1; }
    sleep 2
  done
}

nodes_are() { documented "'ray status'" | sed -n '/^Active/,/^Pending/p' | grep -q "^ $1 local.cluster.node"; }

job_is() { documented 'ray job status' "s/digits-1/$1/" | tr '\n' ' ' | grep -q "Job '$1' $2"; }

says() {       # says WORDS COMMAND...: WORDS are in what the command says; $ended is its exit code
  local words=$1; shift
  ended=0
  "$@" > "$work/said.log" 2>&1 || ended=$?
  cat "$work/said.log"
  tr -d '\r' < "$work/said.log" | tr '\n' ' ' | grep -qF "$words"
}

refused() { says "$@" && ((ended != 0)); }

trials_are() { # trials_are RUN N: N trials are done, each once
  "$python" - "$work/shared/runs/$1/trials.parquet" "$2" <<'PY'
import sys
import pyarrow.parquet as pq
rows = pq.read_table(sys.argv[1]).to_pylist()
done = [row["trial_id"] for row in rows if row["status"] == "done"]
assert len(done) == len(set(done)) == int(sys.argv[2]), [(row["trial_id"], row["status"]) for row in rows]
PY
}

# a network of two hosts
mkdir -p "$work/shared" "$work/project/clusters" "$work/home" "$work/tmp"
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

# the shipped file with our addresses, user and key, in a folder that looks like the project's
cp -r dist experiments "$work/project/"
"$python" .ci/constraints.py > "$work/project/constraints.txt"
sed -e "s/192.0.2.10/$head/; s/192.0.2.11/$worker/; s/ssh_user: fcdd/ssh_user: root/; s#~/.ssh/id_ed25519#$work/id#" \
  clusters/on-premise.yaml > "$work/project/clusters/on-premise.yaml"
mkdir "$work/bin"
printf '#!/usr/bin/env bash\nexec "%s" -m ray.scripts.scripts "$@"\n' "$python" > "$work/bin/ray"
chmod +x "$work/bin/ray"
root_home=$(getent passwd root | cut -d: -f6)
export HOME="$work/home" TMPDIR="$work/tmp" PATH="$work/bin:$PATH" RAY_USAGE_STATS_ENABLED=0
unset PYTHONPATH

check "a token is made" documented 'ray get-auth-token'
check "ray up" documented 'ray up'
check "both hosts joined" within 300 nodes_are 2
check "the wheel is installed" inside head \
  '~/fcdd_sweep/venv/bin/python -c "import fcdd_sweep; assert \"/fcdd_sweep/venv/\" in fcdd_sweep.__file__"'
check "who has another token stays out" refused InvalidAuthToken \
  inside head 'RAY_AUTH_MODE=token RAY_AUTH_TOKEN=0123456789012345678901234567890123456789 ~/fcdd_sweep/venv/bin/ray status'
check "the dashboard hears on localhost only" bash -c "! (: > /dev/tcp/$head/8265) 2> /dev/null"

# hosts that cannot take part are told before trials start
few="--set seeds=1 --set training.epochs=2 --set dataset.classes=[0,1,2,3]"
check "a folder that is not shared is told" refused "worker: $root_home/own/first is not the same folder as on the driver" \
  documented '--set name=first' 's#/mnt/nfs/runs#~/own#'
check "no trial was started" inside head '! ls ~/own/first/.attempts/*'
inside worker 'mount -o remount,bind,ro /mnt/nfs'
check "a host that cannot write is told" refused "worker: /mnt/nfs/runs/first cannot be used (Read-only file system)" \
  documented '--set name=first'
inside worker 'mount -o remount,bind,rw /mnt/nfs'

check "the first trials" documented '--set name=first'
check "they are done" trials_are first 2
check "status on the folder of results" documented 'fcdd_sweep status' 's#runs/digits#runs/first#'
check "results are fetched" documented 'rsync-down' 's#digits/#first/#g'
check "the report is among them" test -s "$work/project/first/report.html"

# a sweep as a job, which loses a host
check "a job is submitted" documented 'ray job submit' "s#digits.yaml#& --set name=lost ${few/epochs=2/epochs=40}#"
check "trials run on both hosts" within 240 bash -c "[[ \$(ls -d $work/shared/runs/lost/.attempts/*/* | wc -l) -ge 4 ]]"
sleep 5
kill -9 "$(cat "$work/worker/unshare.pid")"
echo "killed host worker ($SECONDS s)"
check "the job ends without it" within 900 job_is digits-1 succeeded
check "its four trials are done, each once" trials_are lost 4
start_host worker
check "the host comes back and is joined again" within 300 nodes_are 2
check "the same command again has nothing to do" documented 'ray job submit' \
  "s#digits.yaml#& --set name=lost ${few/epochs=2/epochs=40}#; s#digits-1#digits-2#"
check "and says so" within 300 job_is digits-2 succeeded

check "another sweep is submitted" documented 'ray job submit' \
  "s#digits.yaml#& --set name=stopped ${few/epochs=2/epochs=1000}#; s#digits-1#digits-3#"
check "it runs" within 240 bash -c "[[ \$(ls -d $work/shared/runs/stopped/.attempts/*/* | wc -l) -ge 2 ]]"
check "it is stopped" documented 'ray job stop' 's#digits-1#digits-3#'
check "and has saved its trials" says "interrupted: 0 of 4 trials done, 0 failed, 4 missing" documented 'ray job logs' \
  's#digits-1#digits-3#'

check "ray down" documented 'ray down'
check "no Ray is left" bash -c "! (: > /dev/tcp/$head/6379) 2> /dev/null"
echo "all passed in $SECONDS s"
