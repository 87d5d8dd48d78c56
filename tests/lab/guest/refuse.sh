#!/bin/busybox sh
# shellcheck shell=dash
# The controller is expected to fail: says after how long, and what the driver saw.

controller_has_failed() {
    dmesg | grep 'nvme.*CSTS=' >/tmp/refusal
}

loaded_at=$(seconds_up)
load_drivers
wait_for controller_has_failed
say "refused $(($(seconds_up) - loaded_at))"
block_report refusal cat /tmp/refusal
