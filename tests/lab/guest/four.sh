#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# How long our target needs until it serves no device of the machine, one, and four.

. /guest/program.sh

is_ready() { grep -q '^ready ' /tmp/ready; }

serve() { # COUNT ADDRESS...
    count=$1
    shift
    : >/tmp/ready
    namespaces=
    for address in "$@"; do
        namespaces="$namespaces --namespace $address"
    done
    began_ms=$(now_ms)
    # shellcheck disable=SC2086  # words
    exec_as_user runnel target --listen vfio-user:/tmp/served $namespaces >/tmp/ready \
        2>/tmp/errors &
    target=$!
    until is_ready; do
        kill -0 $target || finish "failed target: $(cat /tmp/errors)"
        sleep 0.01
    done
    say "up $count $(($(now_ms) - began_ms))"
    kill -TERM $target
    wait $target || finish "failed target: $(cat /tmp/errors)"
    sleep 1
}

load_drivers
for disk in $(nvme_functions); do
    wait_for has_disk "$disk"
done
report_platform
addresses=
for disk in $(nvme_functions); do
    runnel bind "$disk" >/tmp/bound 2>&1 || finish "failed $(cat /tmp/bound)"
    let_user_in "$disk"
    addresses="$addresses $(address "$disk" 1)"
done
for _ in 1 2 3 4; do
    serve 0 ram:16M
    serve 1 "${addresses##* }"
    # shellcheck disable=SC2086  # words
    serve 4 $addresses
done
