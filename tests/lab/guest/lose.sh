#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# The disk is taken from our program, or disturbed, in the midst of I/O on its second namespace; the
# first one has the data. The kernel's parameters say more:
#     event=NAME  what happens: see `happen`
#     seconds=N   how long the program would go on by itself

. /guest/program.sh

reset_function() { # FUNCTION
    method=$(device "$1")/reset_method # not in old kernels
    [ ! -e "$method" ] || echo flr >"$method"
    echo 1 >"$(device "$1")/reset" || finish "failed reset of $1"
}

report_error() { # KIND, in QEMU's words
    command="pcie_aer_inject_error root_port $1"
    answer=$(monitor human-monitor-command "\"command-line\": \"$command\"")
    case $answer in OK*) ;; *) finish "failed $command: $answer" ;; esac
}

# Each returns when whoever has done it would go on.
happen() { # EVENT FUNCTION
    case $1 in
        kill) kill -9 "$load" && echo "$2" >"$(device "$2")/driver/unbind" ;;
        unbind) echo "$2" >"$(device "$2")/driver/unbind" ;;
        unplug) unplug "$2" ;;
        aer) report_error UNSUP ;;     # a transaction was refused: not fatal
        aer-fatal) report_error SDN ;; # the link went down: the kernel resets what is behind it
        flr) reset_function "$2" ;;
    esac || finish "failed $1"
}

load_drivers
disk=$(nvme_functions)
say "name_it $disk"
read_by_kernel "$disk"
report_platform
to_vfio "$disk"
let_user_in "$disk"
before=$(requests)
exec_load "$(address "$disk" 2)" "${seconds:-60}" 0,1 it &
load=$!
wait_for is_under_load $load "$before"
say "before $(($(requests) - before))"
mark lost
{ happen "${event:-unbind}" "$disk" && mark returned && say "meanwhile $(requests)"; } &
happening=$!
wait $load
status=$?
mark ended
wait $happening
say "status_it $status"
say "finally $(requests)"
report_load it
report_pins
case $event in
    unplug) plug_in ;;
    *) hand_to "$disk" '' ;;
esac
wait_for has_disk "$disk"
mark back
read_by_kernel "$disk"
report_filters
