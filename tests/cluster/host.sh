#!/usr/bin/env bash
# One host: its own name, processes, /tmp, home and shared memory, and an ssh server as process 1. Called by run.sh in a
# network namespace, with new mount, pid, uts and ipc namespaces.
#   host.sh NAME ADDRESS WORK PYTHON     PYTHON is an interpreter with all packages but this project
# WORK has id.pub, the folder that all hosts share, and a folder per host with its host_key.
set -euo pipefail
home=$(getent passwd "$(id -un)" | cut -d: -f6)   # where sshd lets root in, whatever HOME says
name=$1 address=$2 work=$3 python=$4
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
base=$("$python" -c 'import sys; print(sys._base_executable)')
prefix=$("$python" -c 'import sys; print(sys.base_prefix)')

hostname "$name"
mount -t proc proc /proc
# Folders get covered below: what a host may see of them is bound to /mnt first.
mount -t tmpfs tmpfs /mnt
mkdir /mnt/nfs /mnt/packages /mnt/own /mnt/prefix
mount --bind "$work/shared" /mnt/nfs
mount --bind "$packages" /mnt/packages
mount --bind "$work/$name" /mnt/own
mount --bind "$prefix" /mnt/prefix
cp "$work/id.pub" /mnt/own/
mkdir -p /mnt/own/home
for covered in /tmp /dev/shm /run; do
  mount -t tmpfs tmpfs "$covered"
done
chmod 1777 /tmp /dev/shm
mount --bind /mnt/own/home "$home"              # stays when the host is lost and comes back
case $prefix in
  "$home"/* | /tmp/*) mkdir -p "$prefix" && mount --bind /mnt/prefix "$prefix" ;;
esac
mkdir -p /run/sshd

if [[ ! -d $home/.ssh ]]; then
  mkdir -p "$home/.ssh" "$home/fcdd_sweep"
  chmod 700 "$home/.ssh"
  cp /mnt/own/id.pub "$home/.ssh/authorized_keys"
  # The environment is there before the set-up commands come, and nothing is fetched: pip finds all but our wheel in it.
  "$base" -m venv --without-pip "$home/fcdd_sweep/venv"
  site=$(echo "$home"/fcdd_sweep/venv/lib/python3*/site-packages)
  echo /mnt/packages > "$site/packages.pth"
  for command in "ray ray.scripts.scripts" "pip pip"; do
    read -r script module <<< "$command"
    printf '#!%s/fcdd_sweep/venv/bin/python\nimport runpy\nrunpy.run_module("%s", run_name="__main__", alter_sys=True)\n' \
      "$home" "$module" > "$home/fcdd_sweep/venv/bin/$script"
    chmod +x "$home/fcdd_sweep/venv/bin/$script"
  done
  # for every ssh session: no index, and none of the machine's own settings
  echo 'export PIP_NO_INDEX=1 PIP_ROOT_USER_ACTION=ignore PIP_CONFIG_FILE=/dev/null' > "$home/.bashrc"
  echo '. ~/.bashrc' > "$home/.profile"
fi
exec /usr/sbin/sshd -D -e -f /dev/null -o ListenAddress="$address" -o UsePAM=no -o StrictModes=no \
  -o HostKey=/mnt/own/host_key -o PidFile=none -o Subsystem="sftp internal-sftp" 2> /mnt/own/sshd.log
