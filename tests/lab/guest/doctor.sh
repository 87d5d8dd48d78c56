#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091,SC2016,SC2154,SC3045  # busybox knows ulimit -S
# What a machine may lack, one thing after the other: our program is asked by an ordinary user, the
# remedy that it prints is typed, and it is asked again. Who types it may do what `sudo` would.

. /guest/program.sh

sudo() { "$@"; }
export USER=user

diagnose() { (exec_by_user runnel doctor "$@"); }

ask() { # CHECK
    diagnose | tr -s ' ' | sed -n "s/^ \([a-z]* $1 \)/\1/p"
}

# Until it is ok: for want of one module another may not have been missed before.
mend() { # CHECK
    for _ in 1 2 3; do
        said=$(ask "$1")
        say "said $said"
        case $said in ok*) return ;; esac
        remedy=$(echo "$said" | sed -n 's/.*; remedy: [^`]*`\([^`]*\)`.*/\1/p')
        eval "$remedy" >/tmp/mended 2>&1 || finish "failed $remedy: $(cat /tmp/mended)"
    done
}

# Where modprobe looks for them. The disks come to their driver meanwhile.
install_modules() {
    mkdir -p "/lib/modules/$(uname -r)"
    cp /modules/*.ko "/lib/modules/$(uname -r)"
    depmod || finish 'failed depmod'
    modprobe nvme || finish 'failed modprobe nvme'
}

limit_group_to_a_cpu() {
    group=/sys/fs/cgroup/limited
    mount -t cgroup2 none /sys/fs/cgroup
    echo +cpuset >/sys/fs/cgroup/cgroup.subtree_control
    mkdir $group
    echo 0 >$group/cpuset.cpus
    echo $$ >$group/cgroup.procs
}

[ ! -s /modules/order ] || install_modules
for disk in $(nvme_functions); do
    wait_for has_disk "$disk"
done
report_platform
mend vfio_module
mend interrupt_remapping
mend device_driver
mend group_viable
mend device_access
mend hugepages
ulimit -H -l "$user_memlock_kib"
ulimit -S -l 64
mend memlock
taskset -p 1 $$ >/tmp/affinity
mend cpuset
if [ -d /sys/fs/cgroup ]; then
    limit_group_to_a_cpu
    mend cpuset
fi
if [ -e /proc/sys/kernel/io_uring_disabled ]; then
    echo 2 >/proc/sys/kernel/io_uring_disabled
    mend io_uring
fi
diagnose --json >/tmp/doctor
say "status $?"
block_report doctor cat /tmp/doctor
