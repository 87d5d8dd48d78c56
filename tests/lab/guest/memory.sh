#!/bin/busybox sh
# shellcheck shell=dash
# No disk: our own program tells where its memory is, with the huge page, and then without.

measure() { # CORES
    runnel perf ram:16M --cores "$1" --time 1 --warmup 0 --json
}

block_report giant measure 1
echo 0 >/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages
block_report normal measure 0,1
