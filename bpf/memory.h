/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Page faults of the target, and the pages of files that come into memory because of it. The
 * programs run for every process of the machine, so that new threads are seen from their first
 * fault on; whose it is they ask first.
 */
#ifndef PROFINFER_MEMORY_H
#define PROFINFER_MEMORY_H

#include "handlers.h"

BODY int is_target(void) {
  if (!PID_LEVEL)
    return bpf_get_current_pid_tgid() >> 32 == (__u32)TARGET;
  return number_inside(leader_of(bpf_get_current_task())) == (__u32)TARGET;
}

/* Runs when the fault has been served: only then is it known whether it was a major one. */
BODY int handle_fault(void *ctx, __u64 address, __u64 is_major) {
  if (is_target() && is_active())
    emit(ctx, KIND_FAULT, address, is_major);
  return 0;
}

#define ORDER_SHIFT 58
#define INODE_MASK ((1ULL << ORDER_SHIFT) - 1)

/* `record` is the tracepoint's. A program that returns 0 would take it from everybody else who has
 * a perf event there. */
BODY int handle_file_read(void *ctx, const void *record) {
  __u64 inode = 0, index = 0;
  __u32 device = 0;
  __u8 order = 0;
  if (!is_target() || !is_active())
    return 1;
  bpf_probe_read_kernel(&inode, sizeof(inode), record + PAGE_INODE);
  bpf_probe_read_kernel(&index, sizeof(index), record + PAGE_INDEX);
  bpf_probe_read_kernel(&device, sizeof(device), record + PAGE_DEVICE);
  if (PAGE_ORDER >= 0)
    bpf_probe_read_kernel(&order, sizeof(order), record + PAGE_ORDER);
  emit(ctx, KIND_FILE_READ, (index & 0xffffffff) | (__u64)device << 32,
       (inode & INODE_MASK) | (__u64)order << ORDER_SHIFT);
  return 1;
}

#endif
