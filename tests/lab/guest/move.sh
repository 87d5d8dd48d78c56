#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# Moves data through every queue of every disk.

. /guest/nvme.sh
start_disks
move_data
report_use
