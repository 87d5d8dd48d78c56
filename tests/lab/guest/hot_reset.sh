#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# Both functions of a device are reset through the port above them, in the midst of I/O: a target of
# ours has them, and a perf is at each. The data is on the first one's first namespace.
#     seconds=N  how long perf goes on

. /guest/program.sh

begin_target() { # ADDRESS ADDRESS
    exec_as_user runnel target --namespace "$1" --namespace "$2" --cores 0 \
        --listen vfio-user:/tmp/one --listen vfio-user:/tmp/two >/tmp/ready 2>/tmp/served &
    target=$!
    wait_for grep -q '^ready ' /tmp/ready
}

load_drivers
disk=$(nvme_functions | head -n 1)
other=$(nvme_functions | tail -n 1)
wait_for has_disk "$other"
read_by_kernel "$disk"
report_platform
hand_to "$other" vfio-pci
to_vfio "$disk"
let_user_in "$disk"
let_user_in "$other"
begin_target "$(address "$disk" 2)" "$(address "$other" 1)"
at_one="vfio-user:/tmp/one?ns=1"
at_two="vfio-user:/tmp/two?ns=2"
say "name_one $at_one"
say "name_two $at_two"
before=$(requests)
exec_load "$at_one" "${seconds:-20}" 1 one &
one=$!
exec_load "$at_two" "${seconds:-20}" 1 two &
two=$!
wait_for is_under_load $one "$before"
wait_for is_under_load $two "$before"
mark lost
say "before $(($(requests) - before))"
port=$(basename "$(dirname "$(readlink -f "$(device "$disk")")")")
echo 1 >"$(device "$port")/reset_subordinate" || finish "failed reset of what is below $port"
mark returned
say "meanwhile $(requests)"
wait $one
say "status_one $?"
wait $two
say "status_two $?"
mark ended
say "finally $(requests)"
kill -TERM $target
wait $target || finish "failed target: $(cat /tmp/served)"
report_load one
report_load two
report_pins
hand_to "$disk" ''
hand_to "$other" ''
wait_for has_disk "$other"
mark back
read_by_kernel "$disk"
report_filters
