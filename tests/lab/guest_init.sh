#!/bin/busybox sh
# shellcheck shell=dash disable=SC3040  # busybox knows pipefail
# First process of a lab guest: brings up the NVMe controllers it finds, moves data through every
# queue, and reports on the second serial port. The first one stays the kernel's console, so a
# kernel message can never land inside a report. `guest.py` reads the report:
#     NAME VALUE...          a fact
#     begin NAME / end NAME  the lines between are one text, such as JSON
# The last fact is `finished` or `failed REASON`; a guest that says neither died.
# /data is what it writes to a disk; the host knows its digest. The kernel's parameters say more:
#     mib=N        how much of the data, an even number
#     disks=N      how many disks there are
#     task=reboot  once the data is written, and only look at it afterwards
#     task=refuse  the controller is expected to fail
#     task=memory  no disk: our own program tells where its memory is

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

# wait_for CONDITION_COMMAND...
wait_for() {
    for _ in $(seq 300); do
        "$@" && return
        sleep 0.1
    done
    finish "failed to see within 30 s: $*"
}

disk_is_there() { # DISK
    [ -b "/dev/nvme${1}n1" ]
}

report_vectors() { # DISK
    pci=$(readlink -f "/sys/class/nvme/nvme$1/device")
    say "driver $(basename "$(readlink "$pci/driver")")"
    for vector in "$pci"/msi_irqs/*; do
        [ -e "$vector" ] && say "vector $(basename "$vector") $(cat "$vector")"
    done
}

report_identity() { # DISK
    block_report "id-ctrl $1" nvme id-ctrl "/dev/nvme$1" -o json
    block_report "id-ns $1" nvme id-ns "/dev/nvme${1}n1" -o json
}

# Blocks of 1 MiB are split by the driver at the controller's MDTS; blocks of 16 KiB ring many
# doorbells. A CPU each, because the driver gives every CPU a queue of its own. Every disk has the
# data one MiB further on than the last one, so that one in place of another shows.
write_half() { # DISK CPU_MASK BLOCK_KIB FIRST_MIB
    first=$(($4 * 1024 / $3))
    taskset "$2" dd if=/data of="/dev/nvme${1}n1" bs="${3}k" count=$((half_mib * 1024 / $3)) \
        skip=$first seek=$((first + $1 * 1024 / $3)) oflag=direct conv=fsync,notrunc \
        2>"/tmp/write.$1.$2"
}

write_data() { # DISK
    write_half "$1" 1 1024 0 &
    other=$!
    write_half "$1" 2 16 $half_mib || finish "failed write: $(cat "/tmp/write.$1.2")"
    wait $other || finish "failed write: $(cat "/tmp/write.$1.1")"
}

read_data_back() { # DISK
    digest=$(dd if="/dev/nvme${1}n1" bs=256k skip=$(($1 * 4)) count=$((half_mib * 8)) iflag=direct \
        2>/tmp/read | sha256sum) || finish "failed read: $(cat /tmp/read)"
    say "read ${digest%% *}"
}

read_from_every_cpu() {
    for cpu in $(seq 0 $(($(nproc) - 1))); do
        taskset "$(printf %x $((1 << cpu)))" dd if=/dev/nvme0n1 of=/dev/null bs=4k count=8 \
            iflag=direct 2>/tmp/read || finish "failed read: $(cat /tmp/read)"
    done
}

# Each writer waits for what it has started itself, so every disk has a shell of its own.
move_data() {
    writers=
    for disk in $all_disks; do
        (write_data "$disk") &
        writers="$writers $!"
    done
    for writer in $writers; do
        wait "$writer" || finish "failed to write"
    done
    for disk in $all_disks; do
        read_data_back "$disk"
    done
}

data_is_there() {
    head -c 65536 /data >/tmp/head
    dd if=/dev/nvme0n1 bs=64k count=1 iflag=direct 2>/tmp/read | cmp -s - /tmp/head
}

move_data_and_reboot_once() {
    if data_is_there; then
        read_data_back 0
    else
        move_data
        reboot -f
        sleep 60
    fi
}

measure() { # CORES
    /own/ld.so --library-path /own /own/runnel perf ram:16M --cores "$1" --time 1 --warmup 0 --json
}

# With the huge page, and then without.
report_memory() {
    block_report giant measure 1
    echo 0 >/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages
    block_report normal measure 0,1
}

controller_has_failed() {
    dmesg | grep 'nvme.*CSTS=' >/tmp/refusal
}

seconds_up() { cut -d . -f 1 /proc/uptime; }

say "kernel $(uname -r)"
task=${task:-move}
half_mib=$((${mib:-64} / 2))
all_disks=$(seq 0 $((${disks:-1} - 1)))
if [ "$task" = memory ]; then
    report_memory
    finish finished
fi
loaded_at=$(seconds_up)
load_drivers
if [ "$task" = refuse ]; then
    wait_for controller_has_failed
    say "refused $(($(seconds_up) - loaded_at))"
    block_report refusal cat /tmp/refusal
    finish finished
fi
for disk in $all_disks; do
    wait_for disk_is_there "$disk"
    report_vectors "$disk"
    report_identity "$disk"
done
if [ "$task" = reboot ]; then
    move_data_and_reboot_once
else
    move_data
fi
read_from_every_cpu
block_report interrupts grep 'nvme[0-9]*q' /proc/interrupts
say "stat $(cat /sys/block/nvme0n1/stat)"
finish finished
