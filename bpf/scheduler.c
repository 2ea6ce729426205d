/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The BCC dialect of scheduler.h. */
#include "scheduler.h"

BPF_F_TABLE("array", int, struct ring_head, sched_heads, ENTRIES_sched_heads, BPF_F_MMAPABLE);
#if TRANSPORT == TRANSPORT_RING
BPF_F_TABLE("array", u32, struct record, sched_slots, ENTRIES_sched_slots, BPF_F_MMAPABLE);
#else
BPF_PERF_OUTPUT(sched_events);
#endif
BPF_F_TABLE("array", int, struct scheduler_control, sched_control, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", int, struct loss, sched_losses, ENTRIES_sched_losses, BPF_F_MMAPABLE);
BPF_HASH(target_threads, u32, u32, 16384);
BPF_TABLE("lru_hash", u32, u64, ended_threads, ENTRIES_ended_threads);
BPF_TABLE("lru_hash", u32, u32, named_strangers, ENTRIES_named_strangers);
BPF_PERCPU_ARRAY(successors, u32, 1);

BODY struct ring_head *ring_head(__u32 cpu) {
  int key = cpu;
  return sched_heads.lookup(&key);
}

#if TRANSPORT == TRANSPORT_RING
BODY struct record *ring_slot(__u32 index) { return sched_slots.lookup(&index); }
#else
BODY long record_output(void *ctx, struct record *r) {
  return sched_events.perf_submit(ctx, r, sizeof(*r));
}
#endif

BODY struct loss *loss_of(__u32 cpu, __u32 kind) {
  int key = cpu * SCHEDULER_KINDS + kind - FIRST_SCHEDULER_KIND;
  return sched_losses.lookup(&key);
}

BODY struct scheduler_control *scheduler_control(void) {
  int zero = 0;
  return sched_control.lookup(&zero);
}

BODY u32 *target_thread(__u32 tid) { return target_threads.lookup(&tid); }

BODY long target_thread_add(__u32 tid, __u32 task) { return target_threads.update(&tid, &task); }

BODY void target_thread_remove(__u32 tid) { target_threads.delete(&tid); }

BODY __u64 *ended_thread(__u32 tid) { return ended_threads.lookup(&tid); }

BODY void ended_thread_add(__u32 tid, __u64 numbers) { ended_threads.update(&tid, &numbers); }

BODY void ended_thread_remove(__u32 tid) { ended_threads.delete(&tid); }

BODY int is_named(__u32 stranger) { return named_strangers.lookup(&stranger) != 0; }

BODY void named_add(__u32 stranger) {
  u32 one = 1;
  named_strangers.update(&stranger, &one);
}

BODY void named_remove(__u32 stranger) { named_strangers.delete(&stranger); }

BODY __u32 *successor_runs(void) {
  int zero = 0;
  return successors.lookup(&zero);
}

int on_switch(void *ctx) { return handle_switch(ctx); }

int on_waking(void *ctx) { return handle_waking(ctx); }

int on_newtask(void *ctx) { return handle_newtask(ctx); }

int on_rename(void *ctx) { return handle_rename(ctx); }

int on_exit(void *ctx) { return handle_exit(ctx); }

int on_free(void *ctx) { return handle_free(ctx); }

int on_reason(void *ctx) { return handle_reason(ctx); }
