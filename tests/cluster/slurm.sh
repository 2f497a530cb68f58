#!/usr/bin/env bash
# clusters/slurm.sbatch with a real Ray of two nodes and a real sweep; stand-ins for srun and scontrol run all on this machine.
# The job hears that its time is up, queues itself again, and goes on to the end.
#   bash tests/cluster/slurm.sh PYTHON      PYTHON has this project's packages
set -euo pipefail
python=$(realpath -s "$1")
cd "$(dirname "$0")/../.."
work=$(mktemp -d /var/tmp/fcdd-slurm-XXXXXX)
trap '[[ $? -eq 0 ]] && rm -rf "$work" || echo "kept for a look: $work"' EXIT

mkdir "$work/bin"
# shellcheck disable=SC2016  # expanded when they are called
{
  printf '#!/usr/bin/env bash\nwhile [[ $1 == -* ]]; do shift; done\nexec "$@"\n' > "$work/bin/srun"
  printf '#!/usr/bin/env bash\necho "$*" >> "%s/requeued"\n' "$work" > "$work/bin/scontrol"
}
chmod +x "$work/bin/srun" "$work/bin/scontrol"
export PATH="$work/bin:$PATH" FCDD_SWEEP_PYTHON=$python FCDD_SWEEP_CACHE="$work/cache" USER="${USER:-someone}"
export SLURM_JOB_ID=$((100000 + $$)) SLURM_JOB_NUM_NODES=2 SLURM_CPUS_PER_TASK=1 SLURMD_NODENAME=first

job() {        # job LOG: starts the script; its number is in $!
  bash clusters/slurm.sbatch experiments/digits.yaml --output "$work/runs" --set seeds=1 --set training.epochs=40 \
    --set 'dataset.classes=[0,1]' --set 'faults.checkpoint_every=2 epochs' > "$work/$1" 2>&1 &
}

said() {       # said WHAT COMMAND...
  local what=$1; shift
  "$@" || { echo "FAILED: $what"; tail -n 30 "$work/second" "$work/first"; exit 1; }
  echo "passed: $what ($SECONDS s)"
}

saved() {      # a trial has a checkpoint
  for _ in $(seq 300); do
    [[ -n $(find "$work/runs" -path '*/checkpoints/*' 2> /dev/null) ]] && return
    sleep 1
  done
  return 1
}

job first
script=$!
said "a trial runs and has a checkpoint" saved
kill -USR1 $script
code=0
wait $script || code=$?
said "the sweep was interrupted" test $code -eq 130
said "the job was queued again" grep -qx "requeue $SLURM_JOB_ID" "$work/requeued"
job second
script=$!
said "the job goes on to the end" wait $script
said "its two trials are done" grep -q '2 of 2 trials done, 0 failed, 0 missing' "$work/second"
said "its Rays are gone" test ! -e "/tmp/ray-$SLURM_JOB_ID"
