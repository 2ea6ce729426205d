/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The libbpf dialect of scheduler.h. Whoever loads it sets every parameter and the size of the maps
 * that have none here. */
#include "libbpf.h"
#include "parameters.h"

SCHEDULER_PARAMETERS(PARAMETER)

#include "scheduler.h"

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ring_head);
} sched_heads SEC(".maps");

#if TRANSPORT == TRANSPORT_RING
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct record);
} sched_slots SEC(".maps");
#else
struct {
  __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(__u32));
} sched_events SEC(".maps");
#endif

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct scheduler_control);
  __uint(max_entries, 1);
} sched_control SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct loss);
} sched_losses SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __type(key, __u32);
  __type(value, __u32);
  __uint(max_entries, 16384);
} target_threads SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __type(key, __u32);
  __type(value, __u64);
} ended_threads SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __type(key, __u32);
  __type(value, __u32);
} named_strangers SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __type(key, __u32);
  __type(value, __u32);
  __uint(max_entries, 1);
} successors SEC(".maps");

BODY struct ring_head *ring_head(__u32 cpu) { return bpf_map_lookup_elem(&sched_heads, &cpu); }

#if TRANSPORT == TRANSPORT_RING
BODY struct record *ring_slot(__u32 index) { return bpf_map_lookup_elem(&sched_slots, &index); }
#else
BODY long record_output(void *ctx, struct record *r) {
  return bpf_perf_event_output(ctx, &sched_events, BPF_F_CURRENT_CPU, r, sizeof(*r));
}
#endif

BODY struct loss *loss_of(__u32 cpu, __u32 kind) {
  __u32 key = cpu * SCHEDULER_KINDS + kind - FIRST_SCHEDULER_KIND;
  return bpf_map_lookup_elem(&sched_losses, &key);
}

BODY struct scheduler_control *scheduler_control(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&sched_control, &zero);
}

BODY __u32 *target_thread(__u32 tid) { return bpf_map_lookup_elem(&target_threads, &tid); }

BODY long target_thread_add(__u32 tid, __u32 task) {
  return bpf_map_update_elem(&target_threads, &tid, &task, BPF_ANY);
}

BODY void target_thread_remove(__u32 tid) { bpf_map_delete_elem(&target_threads, &tid); }

BODY __u64 *ended_thread(__u32 tid) { return bpf_map_lookup_elem(&ended_threads, &tid); }

BODY void ended_thread_add(__u32 tid, __u64 numbers) {
  bpf_map_update_elem(&ended_threads, &tid, &numbers, BPF_ANY);
}

BODY void ended_thread_remove(__u32 tid) { bpf_map_delete_elem(&ended_threads, &tid); }

BODY int is_named(__u32 stranger) { return bpf_map_lookup_elem(&named_strangers, &stranger) != 0; }

BODY void named_add(__u32 stranger) {
  __u32 one = 1;
  bpf_map_update_elem(&named_strangers, &stranger, &one, BPF_ANY);
}

BODY void named_remove(__u32 stranger) { bpf_map_delete_elem(&named_strangers, &stranger); }

BODY __u32 *successor_runs(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&successors, &zero);
}

SEC("raw_tracepoint") int on_switch(void *ctx) { return handle_switch(ctx); }

SEC("raw_tracepoint") int on_waking(void *ctx) { return handle_waking(ctx); }

SEC("raw_tracepoint") int on_newtask(void *ctx) { return handle_newtask(ctx); }

SEC("raw_tracepoint") int on_rename(void *ctx) { return handle_rename(ctx); }

SEC("raw_tracepoint") int on_exit(void *ctx) { return handle_exit(ctx); }

SEC("raw_tracepoint") int on_free(void *ctx) { return handle_free(ctx); }

SEC("tracepoint") int on_reason(void *ctx) { return handle_reason(ctx); }
