#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# What tasks need in which our program is to refuse, and to leave everything as it was.

. /guest/program.sh

# All of a function that binding changes: its driver, the one it is to have, the one it had.
state_of() { # FUNCTION
    echo "$(driver_of "$1") $(cat "$(device "$1")/driver_override")" \
        "$(cat "/run/runnel/$1" 2>/tmp/none || echo unknown)"
}

# Reports the exit status, the function's state before and after, and the lines of complaint.
refuse() { # NAME FUNCTION COMMAND...
    refusal=$1
    refused=$2
    shift 2
    state_of "$refused" >/tmp/before
    "$@" >/tmp/said 2>/tmp/errors
    echo $? >/tmp/status
    state_of "$refused" >/tmp/after
    block_report "refusal $refusal" cat /tmp/status /tmp/before /tmp/after /tmp/errors
}

report_state() { # NAME FUNCTION
    say "$1 $(state_of "$2")"
}
