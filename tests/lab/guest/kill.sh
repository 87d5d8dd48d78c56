#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091,SC2154  # program.sh sets load
# Our program is killed in the midst of I/O. The kernel takes the device back from it.

. /guest/program.sh

load_drivers
disk=$(nvme_functions)
read_by_kernel "$disk"
report_platform
to_vfio "$disk"
let_user_in "$disk"
start_load "$disk"
killed_at=$(now_ms)
kill -9 "$load"
hand_to "$disk" ''
say "ended $(($(now_ms) - killed_at))"
read_by_kernel "$disk"
report_pins
