#!/bin/busybox sh
# shellcheck shell=dash
# What our program says of a machine as it was booted.

load_drivers
runnel doctor --json >/tmp/doctor
say "status $?"
block_report doctor cat /tmp/doctor
