#!/bin/busybox sh
# shellcheck shell=dash disable=SC3040,SC1090,SC1091  # busybox knows pipefail
# First process of a lab guest: prepares what every task needs, then does the task that the kernel's
# parameter `task` names: the file beside this one. The guest reports on its second serial port. The
# first one stays the kernel's console, so a kernel message can never land inside a report.
# `guest.py` reads the report:
#     NAME VALUE...          a fact
#     begin NAME / end NAME  the lines between are one text, such as JSON
#     monitor JSON           a command for QEMU; its answer comes as one line
# The last fact is `finished` or `failed REASON`; a guest that says neither died.

set -o pipefail
export PATH=/bin
/bin/busybox mkdir -p /dev /proc /sys /tmp /run
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
chmod 1777 /tmp
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1

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
    "$@" >&3
    status=$?
    say "end $name"
    [ $status = 0 ] || finish "failed $*"
}

# wait_for CONDITION_COMMAND...
wait_for() {
    for _ in $(seq 300); do
        "$@" && return
        sleep 0.1
    done
    finish "failed to see within 30 s: $*"
}

monitor() { # COMMAND ARGUMENTS_IN_JSON...; prints what came of it, such as `ok`
    command=$1
    shift
    say "monitor {\"execute\": \"$command\", \"arguments\": {$*}}"
    head -n 1 <&3
}

seconds_up() { cut -d . -f 1 /proc/uptime; }

load_drivers() {
    while read -r module; do
        insmod "/modules/$module" || finish "failed insmod $module"
    done </modules/order
}

say "kernel $(uname -r)"
. "/guest/${task:-move}.sh"
finish finished
