/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * What the kernel's scheduler does, from its tracepoints: one body per tracepoint.
 *
 * The fields are read out of the tracepoint's own record, at the offsets that tracefs tells of it:
 * no kernel header and no BTF is needed. Two dialects (scheduler.c, scheduler.bpf.c) define the
 * parameters, the maps and the functions declared here.
 */
#ifndef PROFINFER_SCHEDULER_H
#define PROFINFER_SCHEDULER_H

#include "emit.h"

/* Bytes of a tracepoint's record that are looked at. */
#define TRACEPOINT_MAX 128

#define CLONE_THREAD 0x10000
/* States in which a task sleeps; what it is else may be preempted. */
#define SLEEPS 0xff

struct tracepoint {
  __u64 word[TRACEPOINT_MAX / 8];
};

/* ---- What a dialect provides ---- */
BODY struct scheduler_control *scheduler_control(void);
/* Threads of the target; only where TARGET_ONLY. */
BODY int is_target_thread(__u32 tid);
BODY long target_thread_add(__u32 tid);
BODY void target_thread_remove(__u32 tid);
/* Per CPU: whether the thread that has taken over from one of the target's still runs. */
BODY __u32 *successor_runs(void);

BODY __u64 boot_offset(void) {
  struct scheduler_control *c = scheduler_control();
  return c ? c->boot_offset : 0;
}

BODY int is_recording(void) {
  struct scheduler_control *c = scheduler_control();
  return c && c->active;
}

BODY __u32 field_u32(struct tracepoint *t, __s32 offset) {
  return *(__u32 *)((char *)t + (offset & (TRACEPOINT_MAX - 4)));
}

BODY __u64 field_u64(struct tracepoint *t, __s32 offset) {
  return *(__u64 *)((char *)t + (offset & (TRACEPOINT_MAX - 8)));
}

/* The system call that the running thread is in, -1 for none: then a fault brought it here. */
BODY __u64 current_call(void) {
  __s32 call = -1;
  long registers = bpf_task_pt_regs(bpf_get_current_task_btf());
  bpf_probe_read_kernel(&call, sizeof(call), (void *)(registers + CALL_OFFSET));
  return (__u32)call | 1ULL << SWITCH_HAS_CALL;
}

BODY int handle_switch(void *ctx) {
  struct tracepoint t;
  struct scheduler_control *c = scheduler_control();
  if (!c || !c->active)
    return 0;
  bpf_probe_read_kernel(&t, sizeof(t), ctx);
  __u32 next = field_u32(&t, SWITCH_NEXT_PID);
  __u32 state = field_u64(&t, SWITCH_PREV_STATE);
  __u64 b = 0;
  if (bpf_get_current_pid_tgid() >> 32 == c->target)
    b |= 1ULL << SWITCH_FROM_TARGET;
  if (TARGET_ONLY) {
    __u32 *successor = successor_runs();
    if (!successor)
      return 0;
    if (is_target_thread(next))
      b |= 1ULL << SWITCH_TO_TARGET;
    else if (!b && !*successor)
      return 0;
    /* Who takes over is followed until it gives the CPU away. */
    *successor = (b >> SWITCH_FROM_TARGET & 1) && !(b >> SWITCH_TO_TARGET & 1);
  }
  if (CALL_OFFSET >= 0 && (b >> SWITCH_FROM_TARGET & 1) && state & SLEEPS)
    b |= current_call();
  emit(ctx, KIND_SWITCH,
       next | (__u64)(state & 0xffff) << 32 | (__u64)field_u32(&t, SWITCH_NEXT_PRIO) << 48, b);
  return 0;
}

BODY int handle_waking(void *ctx) {
  struct tracepoint t;
  if (!is_recording())
    return 0;
  bpf_probe_read_kernel(&t, sizeof(t), ctx);
  __u32 tid = field_u32(&t, WAKING_PID);
  if (TARGET_ONLY && !is_target_thread(tid))
    return 0;
  emit(ctx, KIND_WAKING,
       tid | (__u64)(field_u32(&t, WAKING_CPU) & 0xffff) << 32 |
           (__u64)field_u32(&t, WAKING_PRIO) << 48,
       0);
  return 0;
}

BODY void emit_name(void *ctx, __u8 kind, __u32 tid, __s32 offset) {
  __u64 name[2] = {};
  bpf_probe_read_kernel(name, sizeof(name), ctx + offset);
  emit_of(ctx, kind, tid, name[0], name[1]);
}

BODY int handle_newtask(void *ctx) {
  struct tracepoint t;
  struct scheduler_control *c = scheduler_control();
  if (!c || !c->active)
    return 0;
  bpf_probe_read_kernel(&t, sizeof(t), ctx);
  __u64 maker = bpf_get_current_pid_tgid();
  __u32 tid = field_u32(&t, NEWTASK_PID);
  __u64 flags = field_u64(&t, NEWTASK_FLAGS);
  emit_name(ctx, KIND_NEWNAME, tid, NEWTASK_COMM);
  emit(ctx, KIND_NEWTASK, tid | maker >> 32 << 32, flags);
  if (TARGET_ONLY && maker >> 32 == c->target && flags & CLONE_THREAD)
    /* Without room its switches cannot be recognised: that it exists has been lost. */
    if (target_thread_add(tid))
      count_loss(bpf_get_smp_processor_id(), KIND_NEWTASK);
  return 0;
}

BODY int handle_rename(void *ctx) {
  struct tracepoint t;
  if (!is_recording())
    return 0;
  bpf_probe_read_kernel(&t, sizeof(t), ctx);
  emit_name(ctx, KIND_RENAME, field_u32(&t, RENAME_PID), RENAME_COMM);
  return 0;
}

BODY int handle_exit(void *ctx) {
  struct tracepoint t;
  if (!is_recording())
    return 0;
  bpf_probe_read_kernel(&t, sizeof(t), ctx);
  emit_of(ctx, KIND_EXIT, field_u32(&t, EXIT_PID), 0, 0);
  return 0;
}

/* After its last switch: an exit does not end a thread's running. */
BODY int handle_free(void *ctx) {
  struct tracepoint t;
  if (!is_recording())
    return 0;
  bpf_probe_read_kernel(&t, sizeof(t), ctx);
  __u32 tid = field_u32(&t, FREE_PID);
  if (TARGET_ONLY)
    target_thread_remove(tid);
  emit_of(ctx, KIND_FREE, tid, 0, 0);
  return 0;
}

/* sched_blocked_reason, which only some kernels have. */
BODY int handle_reason(void *ctx) {
  struct tracepoint t;
  if (!is_recording())
    return 0;
  bpf_probe_read_kernel(&t, sizeof(t), ctx);
  __u32 tid = field_u32(&t, REASON_PID);
  if (TARGET_ONLY && !is_target_thread(tid))
    return 0;
  emit_of(ctx, KIND_REASON, tid, field_u64(&t, REASON_CALLER),
          field_u32(&t, REASON_IO_WAIT) & 0xff);
  return 0;
}

#endif
