#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# Our program on a disk that no IOMMU guards memory from, as root.

. /guest/refusal.sh

perf() { # ADDRESS
    runnel perf "$1" --rw randrw --verify --block-size 4096 --depth 8 --cores 0,1 \
        --poll adaptive --time 1 --warmup 0 --json
}

load_drivers
disk=$(nvme_functions)
wait_for has_disk "$disk"
say "groups $(find /sys/kernel/iommu_groups -mindepth 1 -maxdepth 1 | wc -l)"
refuse switch "$disk" runnel bind "$disk"
echo 1 >/sys/module/vfio/parameters/enable_unsafe_noiommu_mode
say "driver $(driver_of "$disk")"
runnel bind "$disk" >/tmp/bound 2>&1 || finish "failed $(cat /tmp/bound)"
say "driver $(driver_of "$disk")"
refuse unasked "$disk" perf "pci:$disk?ns=1"
perf "$(address "$disk" 1)" >/tmp/perf 2>/tmp/errors || finish "failed perf: $(cat /tmp/errors)"
block_report "perf 1:4096" cat /tmp/perf
block_report warning cat /tmp/errors
runnel copy /data "$(address "$disk" 1)" 2>/tmp/errors || finish "failed copy: $(cat /tmp/errors)"
echo 0 >/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages
refuse pages "$disk" perf "$(address "$disk" 1)"
report_filters
unbind "$disk"
