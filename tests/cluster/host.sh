#!/usr/bin/env bash
# One host: its own name, processes, /tmp, home and shared memory, and an ssh server as process 1. Called by run.sh in a
# network namespace, with new mount, pid and uts namespaces.
#   host.sh NAME ADDRESS WORK PYTHON     WORK has id.pub and a folder per host; PYTHON is an interpreter with all packages
set -euo pipefail
name=$1 address=$2 work=$3 python=$4
own=$work/$name
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
base=$("$python" -c 'import sys; print(sys._base_executable)')
prefix=$("$python" -c 'import sys; print(sys.base_prefix)')

hostname "$name"
mount -t proc proc /proc
# Folders get covered below: what a host may see of them is bound aside first.
mkdir -p /mnt/fcdd
mount -t tmpfs tmpfs /mnt/fcdd
mkdir -p /mnt/fcdd/{shared,packages,own,prefix}
mount --bind "$work/shared" /mnt/fcdd/shared
mount --bind "$packages" /mnt/fcdd/packages
mount --bind "$own" /mnt/fcdd/own
mount --bind "$prefix" /mnt/fcdd/prefix
cp "$work/id.pub" /mnt/fcdd/own/authorized_keys
for covered in /tmp /root /dev/shm /run; do
  mount -t tmpfs tmpfs "$covered"
done
case $prefix in /root/* | /tmp/*) mkdir -p "$prefix" && mount --bind /mnt/fcdd/prefix "$prefix" ;; esac
mkdir -p /run/sshd /root/.ssh /root/fcdd_sweep
cp /mnt/fcdd/own/authorized_keys /root/.ssh/
chmod 700 /root/.ssh

# Packages are shared, nothing is fetched: pip of the set-up commands finds all but our wheel installed.
"$base" -m venv --without-pip /root/fcdd_sweep/venv
site=$(echo /root/fcdd_sweep/venv/lib/python3*/site-packages)
echo /mnt/fcdd/packages > "$site/shared.pth"
for command in "ray ray.scripts.scripts" "pip pip"; do
  read -r script module <<< "$command"
  printf '#!/root/fcdd_sweep/venv/bin/python\nimport runpy\nrunpy.run_module("%s", run_name="__main__", alter_sys=True)\n' \
    "$module" > "/root/fcdd_sweep/venv/bin/$script"
  chmod +x "/root/fcdd_sweep/venv/bin/$script"
done
# for every ssh session: no index, and no folder of the machine's own settings
printf 'export PIP_NO_INDEX=1 PIP_ROOT_USER_ACTION=ignore PIP_CONFIG_FILE=/dev/null OMP_NUM_THREADS=1\n' > /root/.bashrc
printf '. ~/.bashrc\n' > /root/.profile
exec /usr/sbin/sshd -D -e -o ListenAddress="$address" -o UsePAM=no -o StrictModes=no -o PermitRootLogin=yes \
  -o HostKey=/mnt/fcdd/own/host_key -o PidFile=none 2> /mnt/fcdd/own/sshd.log
