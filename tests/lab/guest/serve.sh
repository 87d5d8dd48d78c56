#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# A controller of the machine behind one of ours: a target has the disk, and perf the target.

. /guest/program.sh

load_drivers
disk=$(nvme_functions)
wait_for has_disk "$disk"
report_platform
bind "$disk"
exec_as_user runnel target --listen vfio-user:/tmp/served --cores 0 \
    --namespace "$(address "$disk" 1)" >/tmp/ready 2>/tmp/errors &
target=$!
wait_for grep -q '^ready ' /tmp/ready
as_user runnel perf vfio-user:/tmp/served --rw randrw --verify --block-size 4096 --depth 8 \
    --cores 1 --time 1 --warmup 0 --json >/tmp/perf 2>/tmp/refusal ||
    finish "failed perf: $(cat /tmp/refusal /tmp/errors)"
block_report "perf 1:4096" cat /tmp/perf
kill -TERM $target
wait $target || finish "failed target: $(cat /tmp/errors)"
block_report target cat /tmp/errors
report_pins
report_filters
unbind "$disk"
