/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * How a program sends a record, and counts those that do not fit: for both dialects and both
 * transports (ring.h, perf.h).
 */
#ifndef PROFINFER_EMIT_H
#define PROFINFER_EMIT_H

#include "parameters.h"
#include "pids.h"
#include "records.h"

/* Of a loop: its body stands in the program once. */
#define ROLLED _Pragma("clang loop unroll(disable)")

/* ---- What a dialect provides ---- */
BODY struct ring_head *ring_head(__u32 cpu);
#if TRANSPORT == TRANSPORT_RING
BODY struct record *ring_slot(__u32 index); /* of the array of all rings, one after another */
#else
BODY long record_output(void *ctx, struct record *r); /* 0, or it did not fit */
#endif
BODY struct loss *loss_of(__u32 cpu, __u32 kind);
BODY __u32 running_thread(void); /* by user space's number */
BODY __u64 boot_offset(void);    /* CLOCK_BOOTTIME - CLOCK_MONOTONIC, where BOOT_CLOCK is 0 */

/* CLOCK_BOOTTIME. Before 5.8 user space says by how much it differs from what there is. */
BODY __u64 boot_ns(void) {
  if (BOOT_CLOCK)
    return bpf_ktime_get_boot_ns();
  return bpf_ktime_get_ns() + boot_offset();
}

BODY void count_losses(__u32 cpu, __u32 kind, __u32 lost) {
  struct loss *l = loss_of(cpu, kind);
  if (!l)
    return;
  l->last_ts = boot_ns();
  __sync_fetch_and_add(&l->lost, lost);
}

BODY void count_loss(__u32 cpu, __u32 kind) { count_losses(cpu, kind, 1); }

/* A transport provides
 *   try_emit_of: sends a record about a thread; its time, 0 when it did not fit.
 *   try_emit_counted: the same of the running one, with a reading of the counters (0: unknown);
 *                how many of that one's records did not fit is in `lost`. */
#if TRANSPORT == TRANSPORT_RING
#include "ring.h"
#else
#include "perf.h"
#endif

BODY __u64 emit_of(void *ctx, __u8 kind, __u32 tid, __u64 a, __u64 b) {
  __u32 cpu = bpf_get_smp_processor_id();
  __u64 ts = try_emit_of(ctx, cpu, kind, tid, a, b);
  if (!ts)
    count_loss(cpu, kind);
  return ts;
}

BODY __u64 emit(void *ctx, __u8 kind, __u64 a, __u64 b) {
  return emit_of(ctx, kind, running_thread(), a, b);
}

#endif
