/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The BCC dialect: maps, and one program per probe. BCC rewrites map accesses in this file only,
 * which is why they are wrapped in functions here and the bodies stand in handlers.h.
 */
#include "calls.h"
#include "experts.h"
#include "graphs.h"
#include "memory.h"
#include "ubatches.h"
#include <uapi/linux/bpf_perf_event.h>
#include <uapi/linux/ptrace.h>

/* Mapped by user space (records.h says how it is shared). */
BPF_F_TABLE("array", int, struct ring_head, ring_heads, ENTRIES_ring_heads, BPF_F_MMAPABLE);
#if TRANSPORT == TRANSPORT_RING
BPF_F_TABLE("array", u32, struct record, ring_slots, ENTRIES_ring_slots, BPF_F_MMAPABLE);
BPF_RINGBUF_OUTPUT(structure_ring, ENTRIES_structure_ring / PAGE_SIZE);
#else
BPF_PERF_OUTPUT(record_events);
BPF_PERF_OUTPUT(structure_events);
#endif
BPF_ARRAY(control_map, struct control, 1);
BPF_ARRAY(steps, struct step, STEPS_MAX);
BPF_ARRAY(loss_map, struct loss, ENTRIES_loss_map);
BPF_ARRAY(zero_walk, struct walk, 1);
BPF_TABLE("lru_hash", u32, struct thread_state, threads, 4096);
BPF_TABLE("lru_hash", u32, struct walk, walks, 1024);
BPF_TABLE("lru_hash", u32, struct call_state, calls_under_way, 1024);
BPF_TABLE("lru_hash", u64, struct graph_state, graphs, 4096);
BPF_TABLE("lru_hash", u64, u64, structures, 16384);
BPF_TABLE("lru_hash", u64, u64, signatures, ENTRIES_signatures);
BPF_PERF_ARRAY(counter_events, ENTRIES_counter_events);
BPF_PERCPU_ARRAY(counter_cpus, struct counter_cpu, 1);
BPF_TABLE("hash", u32, struct counter_thread, counter_threads, ENTRIES_counter_threads);
BPF_ARRAY(zero_counter_thread, struct counter_thread, 1);
BPF_PROG_ARRAY(chain, CHAIN_COUNT);

BODY struct control *control(void) {
  int zero = 0;
  return control_map.lookup(&zero);
}

BODY struct step *step(__u32 number) {
  int key = number;
  return steps.lookup(&key);
}

BODY struct ring_head *ring_head(__u32 cpu) {
  int key = cpu;
  return ring_heads.lookup(&key);
}

#if TRANSPORT == TRANSPORT_RING
BODY struct record *ring_slot(__u32 index) { return ring_slots.lookup(&index); }

BODY void *structure_reserve(void) { return structure_ring.ringbuf_reserve(WIDE_SIZE); }

/* User space polls: a wake-up would cost the target more than the whole handler. */
BODY void structure_submit(void *r) { structure_ring.ringbuf_submit(r, BPF_RB_NO_WAKEUP); }
#else
BODY long record_output(void *ctx, struct record *r) {
  return record_events.perf_submit(ctx, r, sizeof(*r));
}

BODY long structure_output(void *ctx, void *r) {
  return structure_events.perf_submit(ctx, r, WIDE_SIZE);
}
#endif

BODY struct loss *loss_of(__u32 cpu, __u32 kind) {
  int key = cpu * KIND_COUNT + kind;
  return loss_map.lookup(&key);
}

BODY struct thread_state *thread_state(__u32 tid) {
  struct thread_state zero = {};
  return threads.lookup_or_try_init(&tid, &zero);
}

BODY struct graph_state *graph_state(__u64 cgraph) {
  struct graph_state zero = {};
  return graphs.lookup_or_try_init(&cgraph, &zero);
}

BODY struct walk *walk_of(__u32 tid) {
  int first = 0;
  struct walk *zero;
  struct walk *w = walks.lookup(&tid);
  if (w)
    return w;
  zero = zero_walk.lookup(&first);
  if (!zero)
    return 0;
  walks.update(&tid, zero);
  return walks.lookup(&tid);
}

BODY struct call_state *call_state_known(__u32 tid) { return calls_under_way.lookup(&tid); }

BODY struct call_state *call_state(__u32 tid) {
  struct call_state zero = {};
  return calls_under_way.lookup_or_try_init(&tid, &zero);
}

BODY __u64 *structure_of(__u64 hash) { return structures.lookup(&hash); }

BODY void structure_set(__u64 hash, __u64 structure) { structures.update(&hash, &structure); }

BODY __u64 *signature_of(__u64 tensor) { return signatures.lookup(&tensor); }

BODY void signature_set(__u64 tensor, __u64 signature) { signatures.update(&tensor, &signature); }

BODY struct counter_cpu *counter_cpu(void) {
  int zero = 0;
  return counter_cpus.lookup(&zero);
}

BODY struct counter_thread *counter_thread_known(__u32 tid) { return counter_threads.lookup(&tid); }

BODY struct counter_thread *counter_thread(__u32 tid) {
  int first = 0;
  struct counter_thread *zero, *found = counter_threads.lookup(&tid);
  if (found)
    return found;
  zero = zero_counter_thread.lookup(&first);
  if (!zero)
    return 0;
  counter_threads.insert(&tid, zero);
  return counter_threads.lookup(&tid);
}

BODY void counter_thread_forget(__u32 tid) { counter_threads.delete(&tid); }

BODY void counter_read(__u32 index, struct bpf_perf_event_value *value) {
  counter_events.perf_counter_value(index, value, sizeof(*value));
}

BODY void chain_to(void *ctx, __u32 program) { chain.call(ctx, program); }

int on_operator(struct pt_regs *ctx) { return handle_operator(ctx, PT_REGS_PARM2(ctx)); }

int on_fused(struct pt_regs *ctx) {
  return handle_fused(ctx, PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx));
}

int on_barrier(struct pt_regs *ctx) { return handle_barrier(ctx, PT_REGS_PARM1(ctx)); }

int on_backend_graph(struct pt_regs *ctx) {
  return handle_graph_begin(ctx, ENTRY_BACKEND, PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx));
}

int on_backend_graph_return(struct pt_regs *ctx) { return handle_graph_end(ctx, ENTRY_BACKEND); }

int on_cpu_graph(struct pt_regs *ctx) {
  return handle_graph_begin(ctx, ENTRY_CPU, 0, PT_REGS_PARM1(ctx));
}

int on_cpu_graph_return(struct pt_regs *ctx) { return handle_graph_end(ctx, ENTRY_CPU); }

int on_rebuild(struct pt_regs *ctx) { return handle_rebuild(); }

int on_ubatch(struct pt_regs *ctx) {
  return handle_ubatch_begin(ctx, PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx));
}

int on_ubatch_return(struct pt_regs *ctx) { return handle_ubatch_end(ctx); }

/* One for each of STEPS_MAX. */
int on_step_0(struct pt_regs *ctx) { return handle_step(ctx, 0); }

int on_step_1(struct pt_regs *ctx) { return handle_step(ctx, 1); }

int on_step_2(struct pt_regs *ctx) { return handle_step(ctx, 2); }

int on_step_3(struct pt_regs *ctx) { return handle_step(ctx, 3); }

int on_step_4(struct pt_regs *ctx) { return handle_step(ctx, 4); }

int on_step_5(struct pt_regs *ctx) { return handle_step(ctx, 5); }

int on_step_6(struct pt_regs *ctx) { return handle_step(ctx, 6); }

int on_step_7(struct pt_regs *ctx) { return handle_step(ctx, 7); }

int on_step_8(struct pt_regs *ctx) { return handle_step(ctx, 8); }

int on_step_9(struct pt_regs *ctx) { return handle_step(ctx, 9); }

int on_step_10(struct pt_regs *ctx) { return handle_step(ctx, 10); }

int on_step_11(struct pt_regs *ctx) { return handle_step(ctx, 11); }

BODY struct arguments arguments(struct pt_regs *ctx) {
  return (struct arguments){PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx),
                            PT_REGS_PARM4(ctx), PT_REGS_PARM5(ctx), PT_REGS_PARM6(ctx)};
}

int chain_step(struct pt_regs *ctx) {
  struct arguments given = arguments(ctx);
  return continue_step(ctx, &given);
}

BODY int begin_call(struct pt_regs *ctx, __u32 number) {
  struct arguments given = arguments(ctx);
  return handle_call(ctx, number, PT_REGS_SP(ctx), &given);
}

/* One for each of CALLS_MAX. */
int on_call_0(struct pt_regs *ctx) { return begin_call(ctx, 0); }

int on_call_1(struct pt_regs *ctx) { return begin_call(ctx, 1); }

int on_call_2(struct pt_regs *ctx) { return begin_call(ctx, 2); }

int on_call_3(struct pt_regs *ctx) { return begin_call(ctx, 3); }

int on_call_4(struct pt_regs *ctx) { return begin_call(ctx, 4); }

int on_call_5(struct pt_regs *ctx) { return begin_call(ctx, 5); }

int on_call_6(struct pt_regs *ctx) { return begin_call(ctx, 6); }

int on_call_7(struct pt_regs *ctx) { return begin_call(ctx, 7); }

int on_call_8(struct pt_regs *ctx) { return begin_call(ctx, 8); }

int on_call_9(struct pt_regs *ctx) { return begin_call(ctx, 9); }

int on_call_10(struct pt_regs *ctx) { return begin_call(ctx, 10); }

int on_call_11(struct pt_regs *ctx) { return begin_call(ctx, 11); }

int on_call_12(struct pt_regs *ctx) { return begin_call(ctx, 12); }

int on_call_13(struct pt_regs *ctx) { return begin_call(ctx, 13); }

int on_call_14(struct pt_regs *ctx) { return begin_call(ctx, 14); }

int on_call_15(struct pt_regs *ctx) { return begin_call(ctx, 15); }

int on_call_16(struct pt_regs *ctx) { return begin_call(ctx, 16); }

int on_call_17(struct pt_regs *ctx) { return begin_call(ctx, 17); }

int on_call_18(struct pt_regs *ctx) { return begin_call(ctx, 18); }

int on_call_19(struct pt_regs *ctx) { return begin_call(ctx, 19); }

int on_call_20(struct pt_regs *ctx) { return begin_call(ctx, 20); }

int on_call_21(struct pt_regs *ctx) { return begin_call(ctx, 21); }

int on_call_22(struct pt_regs *ctx) { return begin_call(ctx, 22); }

int on_call_23(struct pt_regs *ctx) { return begin_call(ctx, 23); }

int on_call_24(struct pt_regs *ctx) { return begin_call(ctx, 24); }

int on_call_25(struct pt_regs *ctx) { return begin_call(ctx, 25); }

int on_call_26(struct pt_regs *ctx) { return begin_call(ctx, 26); }

int on_call_27(struct pt_regs *ctx) { return begin_call(ctx, 27); }

int on_call_28(struct pt_regs *ctx) { return begin_call(ctx, 28); }

int on_call_29(struct pt_regs *ctx) { return begin_call(ctx, 29); }

int on_call_30(struct pt_regs *ctx) { return begin_call(ctx, 30); }

int on_call_31(struct pt_regs *ctx) { return begin_call(ctx, 31); }

int on_call_32(struct pt_regs *ctx) { return begin_call(ctx, 32); }

int on_call_33(struct pt_regs *ctx) { return begin_call(ctx, 33); }

int on_call_34(struct pt_regs *ctx) { return begin_call(ctx, 34); }

int on_call_35(struct pt_regs *ctx) { return begin_call(ctx, 35); }

int on_call_36(struct pt_regs *ctx) { return begin_call(ctx, 36); }

int on_call_37(struct pt_regs *ctx) { return begin_call(ctx, 37); }

int on_call_38(struct pt_regs *ctx) { return begin_call(ctx, 38); }

int on_call_39(struct pt_regs *ctx) { return begin_call(ctx, 39); }

int on_call_40(struct pt_regs *ctx) { return begin_call(ctx, 40); }

int on_call_41(struct pt_regs *ctx) { return begin_call(ctx, 41); }

int on_call_42(struct pt_regs *ctx) { return begin_call(ctx, 42); }

int on_call_43(struct pt_regs *ctx) { return begin_call(ctx, 43); }

int on_call_44(struct pt_regs *ctx) { return begin_call(ctx, 44); }

int on_call_45(struct pt_regs *ctx) { return begin_call(ctx, 45); }

int on_call_46(struct pt_regs *ctx) { return begin_call(ctx, 46); }

int on_call_47(struct pt_regs *ctx) { return begin_call(ctx, 47); }

int on_call_return(struct pt_regs *ctx) {
  return handle_call_return(ctx, PT_REGS_SP(ctx), PT_REGS_RC(ctx));
}

int chain_hash(struct pt_regs *ctx) { return continue_hash(ctx); }

int chain_emit(struct pt_regs *ctx) { return continue_emit(ctx); }

int chain_tokens(struct pt_regs *ctx) { return continue_tokens(ctx); }

int chain_experts(struct pt_regs *ctx) { return continue_experts(ctx); }

int count_switch(struct bpf_raw_tracepoint_args *ctx) { return handle_count_switch(ctx->args[2]); }

int count_exit(struct bpf_raw_tracepoint_args *ctx) { return handle_count_exit(); }

int on_minor_fault(struct bpf_perf_event_data *ctx) { return handle_fault(ctx, ctx->addr, 0); }

int on_major_fault(struct bpf_perf_event_data *ctx) { return handle_fault(ctx, ctx->addr, 1); }

int on_file_read(void *ctx) { return handle_file_read(ctx, ctx); }
