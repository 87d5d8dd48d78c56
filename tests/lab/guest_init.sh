#!/bin/busybox sh
# shellcheck shell=dash disable=SC3040  # busybox knows pipefail
# First process of a lab guest: brings up the one NVMe controller it finds, moves data through
# every queue, and reports on the second serial port. The first one stays the kernel's console,
# so a kernel message can never land inside a report. `guest.py` reads the report:
#     NAME VALUE...          a fact
#     begin NAME / end NAME  the lines between are one text, such as JSON
# The last fact is `finished` or `failed REASON`; a guest that says neither died.
# /data is what it writes to the disk; the host knows its digest.

set -o pipefail
export PATH=/bin
/bin/busybox mkdir -p /dev /proc /sys /tmp
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
stty -F /dev/ttyS1 raw -echo
exec 3>/dev/ttyS1

say() { echo "$*" >&3; }

finish() { # REPORT_LINE
    case $1 in failed*) dmesg >/dev/console ;; esac
    say "$1"
    poweroff -f
    sleep 60
}

block_report() { # NAME COMMAND...
    name=$1
    shift
    say "begin $name"
    "$@" >&3 || finish "failed $*"
    say "end $name"
}

load_drivers() {
    while read -r module; do
        insmod "/modules/$module" || finish "failed insmod $module"
    done </modules/order
}

wait_for_disk() {
    for _ in $(seq 300); do
        [ -b /dev/nvme0n1 ] && return
        sleep 0.1
    done
    finish "failed /dev/nvme0n1 did not appear within 30 s"
}

report_vectors() {
    pci=$(readlink -f /sys/class/nvme/nvme0/device)
    say "driver $(basename "$(readlink "$pci/driver")")"
    for vector in "$pci"/msi_irqs/*; do
        [ -e "$vector" ] && say "vector $(basename "$vector") $(cat "$vector")"
    done
}

# Blocks of 1 MiB are split by the driver at the controller's MDTS; blocks of 16 KiB ring many
# doorbells. A CPU each, because the driver gives every CPU a queue of its own.
write_half() { # CPU_MASK BLOCK_KIB FIRST_MIB
    first=$(($3 * 1024 / $2))
    taskset "$1" dd if=/data of=/dev/nvme0n1 bs="${2}k" count=$((half_mib * 1024 / $2)) \
        skip=$first seek=$first oflag=direct conv=fsync,notrunc 2>"/tmp/write.$1"
}

write_data() {
    half_mib=$(($(stat -c %s /data) / 2097152))
    write_half 1 1024 0 &
    other=$!
    write_half 2 16 $half_mib || finish "failed write: $(cat /tmp/write.2)"
    wait $other || finish "failed write: $(cat /tmp/write.1)"
}

read_data_back() {
    digest=$(dd if=/dev/nvme0n1 bs=256k count=$((half_mib * 8)) iflag=direct 2>/tmp/read |
        sha256sum) || finish "failed read: $(cat /tmp/read)"
    say "read ${digest%% *}"
}

say "kernel $(uname -r)"
load_drivers
wait_for_disk
report_vectors
block_report id-ctrl nvme id-ctrl /dev/nvme0 -o json
block_report id-ns nvme id-ns /dev/nvme0n1 -o json
write_data
read_data_back
block_report interrupts grep nvme0q /proc/interrupts
say "stat $(cat /sys/block/nvme0n1/stat)"
finish finished
