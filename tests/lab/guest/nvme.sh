#!/bin/busybox sh
# shellcheck shell=dash
# What tasks do with disks of the kernel's NVMe driver. /data is what they write; the host knows its
# digest. The kernel's parameters say more:
#     mib=N    how much of the data, an even number
#     disks=N  how many disks there are

half_mib=$((${mib:-64} / 2))
all_disks=$(seq 0 $((${disks:-1} - 1)))

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

start_disks() {
    load_drivers
    for disk in $all_disks; do
        wait_for disk_is_there "$disk"
        report_vectors "$disk"
        report_identity "$disk"
    done
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

read_from_every_cpu() {
    for cpu in $(seq 0 $(($(nproc) - 1))); do
        taskset "$(printf %x $((1 << cpu)))" dd if=/dev/nvme0n1 of=/dev/null bs=4k count=8 \
            iflag=direct 2>/tmp/read || finish "failed read: $(cat /tmp/read)"
    done
}

report_use() {
    read_from_every_cpu
    block_report interrupts grep 'nvme[0-9]*q' /proc/interrupts
    say "stat $(cat /sys/block/nvme0n1/stat)"
}
