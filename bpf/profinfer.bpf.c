/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The libbpf dialect: the same maps and programs as in bcc.c, compiled ahead of time
 * (tools/build_bpf.sh) and loaded without kernel headers or a compiler. Nothing of the running
 * kernel's own structs is used, so that no relocation against its BTF is needed either.
 *
 * Whoever loads it sets every parameter, and the size of the maps that have none here.
 */
#include "libbpf.h"
#include "parameters.h"

PARAMETERS(PARAMETER)

#include "calls.h"
#include "experts.h"
#include "graphs.h"
#include "memory.h"
#include "ubatches.h"

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ring_head);
} ring_heads SEC(".maps");

#if TRANSPORT == TRANSPORT_RING
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct record);
} ring_slots SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
} structure_ring SEC(".maps");
#else
struct {
  __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(__u32));
} record_events SEC(".maps"), structure_events SEC(".maps");
#endif

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, struct control);
  __uint(max_entries, 1);
} control_map SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, struct step);
  __uint(max_entries, STEPS_MAX);
} steps SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, struct loss);
} loss_map SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, struct walk);
  __uint(max_entries, 1);
} zero_walk SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __type(key, __u32);
  __type(value, struct thread_state);
  __uint(max_entries, 4096);
} threads SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __type(key, __u32);
  __type(value, struct walk);
  __uint(max_entries, 1024);
} walks SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __type(key, __u32);
  __type(value, struct call_state);
  __uint(max_entries, 1024);
} calls_under_way SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __type(key, __u64);
  __type(value, struct graph_state);
  __uint(max_entries, 4096);
} graphs SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __type(key, __u64);
  __type(value, __u64);
  __uint(max_entries, 16384);
} structures SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __type(key, __u64);
  __type(value, __u64);
  __uint(max_entries, 131072);
} signatures SEC(".maps");

/* By event and CPU. */
struct {
  __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(__u32));
} counter_events SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __type(key, __u32);
  __type(value, struct counter_cpu);
  __uint(max_entries, 1);
} counter_cpus SEC(".maps");

/* No entry may go while its thread lives, or its sums would begin again. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __type(key, __u32);
  __type(value, struct counter_thread);
} counter_threads SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, struct counter_thread);
  __uint(max_entries, 1);
} zero_counter_thread SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(__u32));
  __uint(max_entries, CHAIN_COUNT);
} chain SEC(".maps");

BODY struct control *control(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&control_map, &zero);
}

BODY struct step *step(__u32 number) { return bpf_map_lookup_elem(&steps, &number); }

BODY struct ring_head *ring_head(__u32 cpu) { return bpf_map_lookup_elem(&ring_heads, &cpu); }

#if TRANSPORT == TRANSPORT_RING
BODY struct record *ring_slot(__u32 index) { return bpf_map_lookup_elem(&ring_slots, &index); }

BODY void *structure_reserve(void) { return bpf_ringbuf_reserve(&structure_ring, WIDE_SIZE, 0); }

/* User space polls: a wake-up would cost the target more than the whole handler. */
BODY void structure_submit(void *r) { bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP); }
#else
BODY long record_output(void *ctx, struct record *r) {
  return bpf_perf_event_output(ctx, &record_events, BPF_F_CURRENT_CPU, r, sizeof(*r));
}

BODY long structure_output(void *ctx, void *r) {
  return bpf_perf_event_output(ctx, &structure_events, BPF_F_CURRENT_CPU, r, WIDE_SIZE);
}
#endif

BODY struct loss *loss_of(__u32 cpu, __u32 kind) {
  __u32 key = cpu * KIND_COUNT + kind;
  return bpf_map_lookup_elem(&loss_map, &key);
}

BODY struct thread_state *thread_state(__u32 tid) {
  struct thread_state zero = {};
  struct thread_state *found = bpf_map_lookup_elem(&threads, &tid);
  if (found)
    return found;
  bpf_map_update_elem(&threads, &tid, &zero, BPF_NOEXIST);
  return bpf_map_lookup_elem(&threads, &tid);
}

BODY struct graph_state *graph_state(__u64 cgraph) {
  struct graph_state zero = {};
  struct graph_state *found = bpf_map_lookup_elem(&graphs, &cgraph);
  if (found)
    return found;
  bpf_map_update_elem(&graphs, &cgraph, &zero, BPF_NOEXIST);
  return bpf_map_lookup_elem(&graphs, &cgraph);
}

BODY struct walk *walk_of(__u32 tid) {
  __u32 first = 0;
  struct walk *zero;
  struct walk *found = bpf_map_lookup_elem(&walks, &tid);
  if (found)
    return found;
  zero = bpf_map_lookup_elem(&zero_walk, &first);
  if (!zero)
    return 0;
  bpf_map_update_elem(&walks, &tid, zero, BPF_ANY);
  return bpf_map_lookup_elem(&walks, &tid);
}

BODY struct call_state *call_state_known(__u32 tid) {
  return bpf_map_lookup_elem(&calls_under_way, &tid);
}

BODY struct call_state *call_state(__u32 tid) {
  struct call_state zero = {};
  struct call_state *found = call_state_known(tid);
  if (found)
    return found;
  bpf_map_update_elem(&calls_under_way, &tid, &zero, BPF_NOEXIST);
  return call_state_known(tid);
}

BODY __u64 *structure_of(__u64 hash) { return bpf_map_lookup_elem(&structures, &hash); }

BODY void structure_set(__u64 hash, __u64 structure) {
  bpf_map_update_elem(&structures, &hash, &structure, BPF_ANY);
}

BODY __u64 *signature_of(__u64 tensor) { return bpf_map_lookup_elem(&signatures, &tensor); }

BODY void signature_set(__u64 tensor, __u64 signature) {
  bpf_map_update_elem(&signatures, &tensor, &signature, BPF_ANY);
}

BODY struct counter_cpu *counter_cpu(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&counter_cpus, &zero);
}

BODY struct counter_thread *counter_thread_known(__u32 tid) {
  return bpf_map_lookup_elem(&counter_threads, &tid);
}

BODY struct counter_thread *counter_thread(__u32 tid) {
  __u32 first = 0;
  struct counter_thread *zero, *found = counter_thread_known(tid);
  if (found)
    return found;
  zero = bpf_map_lookup_elem(&zero_counter_thread, &first);
  if (!zero)
    return 0;
  bpf_map_update_elem(&counter_threads, &tid, zero, BPF_NOEXIST);
  return counter_thread_known(tid);
}

BODY void counter_thread_forget(__u32 tid) { bpf_map_delete_elem(&counter_threads, &tid); }

BODY void counter_read(__u32 index, struct bpf_perf_event_value *value) {
  bpf_perf_event_read_value(&counter_events, index, value, sizeof(*value));
}

BODY void chain_to(void *ctx, __u32 program) { bpf_tail_call(ctx, &chain, program); }

SEC("uprobe") int on_operator(struct registers *r) { return handle_operator(r, ARGUMENT(r, 2)); }

SEC("uprobe") int on_fused(struct registers *r) {
  return handle_fused(r, ARGUMENT(r, 2), ARGUMENT(r, 3));
}

SEC("uprobe") int on_barrier(struct registers *r) { return handle_barrier(r, ARGUMENT(r, 1)); }

SEC("uprobe") int on_backend_graph(struct registers *r) {
  return handle_graph_begin(r, ENTRY_BACKEND, ARGUMENT(r, 1), ARGUMENT(r, 2));
}

SEC("uprobe") int on_backend_graph_return(struct registers *r) {
  return handle_graph_end(r, ENTRY_BACKEND);
}

SEC("uprobe") int on_cpu_graph(struct registers *r) {
  return handle_graph_begin(r, ENTRY_CPU, 0, ARGUMENT(r, 1));
}

SEC("uprobe") int on_cpu_graph_return(struct registers *r) {
  return handle_graph_end(r, ENTRY_CPU);
}

SEC("uprobe") int on_rebuild(struct registers *r) { return handle_rebuild(); }

SEC("uprobe") int on_ubatch(struct registers *r) {
  return handle_ubatch_begin(r, ARGUMENT(r, 1), ARGUMENT(r, 2), ARGUMENT(r, 3));
}

SEC("uprobe") int on_ubatch_return(struct registers *r) { return handle_ubatch_end(r); }

/* One for each of STEPS_MAX. */
#define ON_STEP(n)                                                                                 \
  SEC("uprobe") int on_step_##n(struct registers *r) { return handle_step(r, n); }
ON_STEP(0);
ON_STEP(1);
ON_STEP(2);
ON_STEP(3);
ON_STEP(4);
ON_STEP(5);
ON_STEP(6);
ON_STEP(7);
ON_STEP(8);
ON_STEP(9);
ON_STEP(10);
ON_STEP(11);

BODY struct arguments arguments(struct registers *r) {
  return (struct arguments){ARGUMENT(r, 1), ARGUMENT(r, 2), ARGUMENT(r, 3),
                            ARGUMENT(r, 4), ARGUMENT(r, 5), ARGUMENT(r, 6)};
}

SEC("uprobe") int chain_step(struct registers *r) {
  struct arguments given = arguments(r);
  return continue_step(r, &given);
}

BODY int begin_call(struct registers *r, __u32 number) {
  struct arguments given = arguments(r);
  return handle_call(r, number, STACK(r), &given);
}

#define ON_CALL(n)                                                                                 \
  SEC("uprobe") int on_call_##n(struct registers *r) { return begin_call(r, n); }
ON_CALL(0);
ON_CALL(1);
ON_CALL(2);
ON_CALL(3);
ON_CALL(4);
ON_CALL(5);
ON_CALL(6);
ON_CALL(7);
ON_CALL(8);
ON_CALL(9);
ON_CALL(10);
ON_CALL(11);
ON_CALL(12);
ON_CALL(13);
ON_CALL(14);
ON_CALL(15);
ON_CALL(16);
ON_CALL(17);
ON_CALL(18);
ON_CALL(19);
ON_CALL(20);
ON_CALL(21);
ON_CALL(22);
ON_CALL(23);
ON_CALL(24);
ON_CALL(25);
ON_CALL(26);
ON_CALL(27);
ON_CALL(28);
ON_CALL(29);
ON_CALL(30);
ON_CALL(31);
ON_CALL(32);
ON_CALL(33);
ON_CALL(34);
ON_CALL(35);
ON_CALL(36);
ON_CALL(37);
ON_CALL(38);
ON_CALL(39);
ON_CALL(40);
ON_CALL(41);
ON_CALL(42);
ON_CALL(43);
ON_CALL(44);
ON_CALL(45);
ON_CALL(46);
ON_CALL(47);

SEC("uprobe") int on_call_return(struct registers *r) {
  return handle_call_return(r, STACK(r), RESULT(r));
}

SEC("uprobe") int chain_hash(struct registers *r) { return continue_hash(r); }

SEC("uprobe") int chain_emit(struct registers *r) { return continue_emit(r); }

SEC("uprobe") int chain_tokens(struct registers *r) { return continue_tokens(r); }

/* In the place of chain_hash and chain_emit, and of chain_tokens, from Linux 5.17 on. */
SEC("?uprobe") int loop_graph(struct registers *r) { return hash_and_emit(r); }

SEC("?uprobe") int loop_tokens(struct registers *r) { return all_tokens(r); }

SEC("uprobe") int chain_experts(struct registers *r) { return continue_experts(r); }

/* Tracepoints by which others get nothing less, and that nothing keeps from running: those of perf
 * events are passed over while a task that was preempted within a system call on maps is on its
 * CPU. */
SEC("raw_tracepoint/sched_switch") int count_switch(struct bpf_raw_tracepoint_args *ctx) {
  return handle_count_switch(ctx->args[2]); /* preempt, prev, next */
}

SEC("raw_tracepoint/sched_process_exit") int count_exit(void *ctx) { return handle_count_exit(); }

SEC("perf_event") int on_minor_fault(struct registers *r) {
  return handle_fault(r, FAULT_ADDRESS(r), 0);
}

SEC("perf_event") int on_major_fault(struct registers *r) {
  return handle_fault(r, FAULT_ADDRESS(r), 1);
}

SEC("tracepoint") int on_file_read(void *record) { return handle_file_read(record, record); }
