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

BODY __u64 try_emit(void *ctx, __u32 cpu, __u8 kind, __u64 a, __u64 b) {
  struct ring_head *head = ring_head(cpu);
  if (!head)
    return 0;
  __sync_fetch_and_add(&head->next, 1);
  struct record r = {
      .ts = boot_ns(),
      .a = a,
      .b = b,
      .tid = (__u32)bpf_get_current_pid_tgid(),
      .cpu = cpu,
      .kind = kind,
  };
  long failed = record_output(ctx, &r);
  __sync_fetch_and_add(&head->ended, 1);
  return failed ? 0 : r.ts;
}

BODY void *wide_begin(struct walk *w) {
  struct ring_head *head = ring_head(bpf_get_smp_processor_id());
  if (!head)
    return 0;
  __sync_fetch_and_add(&head->next, 1);
  return w->wide;
}

BODY int wide_end(void *ctx, void *r) {
  struct ring_head *head = ring_head(bpf_get_smp_processor_id());
  long failed = structure_output(ctx, r);
  if (head)
    __sync_fetch_and_add(&head->ended, 1);
  return failed ? -1 : 0;
}

#endif
