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

BODY long output_record(void *ctx, struct record *r, __u32 cpu, __u8 kind, __u32 tid, __u64 a,
                        __u64 b) {
  r->a = a;
  r->b = b;
  r->tid = tid;
  r->cpu = cpu;
  r->kind = kind;
  r->mark = 0;
  return record_output(ctx, r);
}

BODY __u64 try_emit_of(void *ctx, __u32 cpu, __u8 kind, __u32 tid, __u64 a, __u64 b) {
  struct ring_head *head = ring_head(cpu);
  if (!head)
    return 0;
  __sync_fetch_and_add(&head->next, 1);
  struct record r = {.ts = boot_ns()};
  long failed = output_record(ctx, &r, cpu, kind, tid, a, b);
  __sync_fetch_and_add(&head->ended, 1);
  return failed ? 0 : r.ts;
}

BODY __u64 try_emit_counted(void *ctx, __u32 cpu, __u8 kind, __u64 a, __u64 b, __u64 *reading,
                            __u32 *lost) {
  struct ring_head *head = ring_head(cpu);
  __u32 records = COUNTER_RECORDS, tid = running_thread();
  *lost = records;
  if (!head)
    return 0;
  __sync_fetch_and_add(&head->next, 1);
  struct record r = {.ts = boot_ns()};
  long failed = output_record(ctx, &r, cpu, kind, tid, a, b);
  ROLLED
  for (__u32 i = 0; i < COUNTER_RECORDS_MAX; i++) {
    if (i >= records)
      break;
    if (!output_record(ctx, &r, cpu, KIND_COUNTERS, tid, reading ? reading[2 * i] : COUNTER_UNKNOWN,
                       reading ? reading[2 * i + 1] : COUNTER_UNKNOWN))
      *lost -= 1;
  }
  __sync_fetch_and_add(&head->ended, 1);
  return failed ? 0 : r.ts;
}

#endif
