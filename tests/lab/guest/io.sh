#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# Our program on a controller of the machine, as an ordinary user: every size of I/O on a namespace
# of either block size, then a file system, which is /data, in and out. The kernel's parameters:
#     runs=NAMESPACE:BYTES,...  the sizes of I/O

. /guest/program.sh

# The interrupts' lines go with the process that has the device open, one by one: the last look that
# found as many as the one before counts.
measure() { # NAMESPACE BYTES
    : >/tmp/seen
    exec_as_user runnel perf "$(address "$disk" "$1")" --rw randrw --verify --block-size "$2" \
        --depth 8 --cores 0,1 --poll adaptive --time 1 --warmup 0 --json >/tmp/perf 2>/tmp/errors &
    while kill -0 $! 2>/tmp/none; do
        vfio_interrupts "$disk" >/tmp/now
        [ "$(wc -l </tmp/now)" -lt "$(wc -l </tmp/seen)" ] || mv /tmp/now /tmp/seen
        sleep 0.1
    done
    wait $! || finish "failed perf of namespace $1 by $2 bytes: $(cat /tmp/errors)"
    block_report "perf $1:$2" cat /tmp/perf
    block_report "interrupts $1:$2" cat /tmp/seen
}

copy() { # FROM TO
    as_user runnel copy "$1" "$2" 2>/tmp/errors || finish "failed copy to $2: $(cat /tmp/errors)"
}

load_drivers
disk=$(nvme_functions)
wait_for has_disk "$disk"
report_platform
bind "$disk"
block_report identify as_user runnel identify "$(address "$disk" 1)" --json
for run in $(echo "${runs:-}" | tr , ' '); do
    measure "${run%:*}" "${run#*:}"
done
copy /data "$(address "$disk" 1)"
copy "$(address "$disk" 1)" /tmp/copied
say "read $(sha256sum /tmp/copied | cut -d ' ' -f 1)"
report_pins
report_filters
unbind "$disk"
