/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The perf transport: records go into the kernel's perf buffers, for kernels that lack what the
 * ring transport needs, and for comparison. Needs Linux 5.5.
 *
 * Nothing keeps a handler from being interrupted between taking its time and sending its record,
 * and a younger record may then be sent first. Each therefore counts itself in and out: while
 * somebody is in, user space does not believe that the past is complete.
 */
#ifndef PROFINFER_PERF_H
#define PROFINFER_PERF_H

BODY __u64 try_emit_of(void *ctx, __u32 cpu, __u8 kind, __u32 tid, __u64 a, __u64 b) {
  struct ring_head *head = ring_head(cpu);
  if (!head)
    return 0;
  __sync_fetch_and_add(&head->next, 1);
  struct record r = {
      .ts = boot_ns(),
      .a = a,
      .b = b,
      .tid = thread_of(tid),
      .cpu = cpu,
      .kind = kind,
  };
  long failed = record_output(ctx, &r);
  __sync_fetch_and_add(&head->ended, 1);
  return failed ? 0 : r.ts;
}

#endif
