/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * What the kernel's scheduler does, from its tracepoints: one body per tracepoint.
 *
 * They are raw tracepoints: programs at a tracepoint's perf event are skipped while the kernel
 * works on another program's map on that CPU, which older kernels do not even count. What they need
 * of a task is read at the offsets that the kernel's BTF tells: no kernel header is needed. Two
 * dialects (scheduler.c, scheduler.bpf.c) define the parameters, the maps and the functions
 * declared here.
 */
#ifndef PROFINFER_SCHEDULER_H
#define PROFINFER_SCHEDULER_H

/* No counters are read here. */
#define COUNTER_RECORDS 0

#include "emit.h"

#define CLONE_THREAD 0x10000
#define NAME_BYTES 16

/* States as sched_switch reports them: the kernel's TASK_REPORT and what stands above it. */
#define STATE_REPORTED 0x7f
#define STATE_IDLE 0x80
#define STATE_PREEMPTED 0x100
/* States that it reports as another. */
#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_IDLE 0x402
#define TASK_RTLOCK_WAIT 0x1000
#define TASK_FROZEN 0x8000

/* What a raw tracepoint hands over. */
struct arguments {
  __u64 word[4];
};
#define ARGUMENT_OF(ctx, n) (((struct arguments *)(ctx))->word[n])

/* The record of the tracepoint sched_blocked_reason. */
#define REASON_MAX 64
struct reason {
  __u64 word[REASON_MAX / 8];
};

/* ---- What a dialect provides ---- */
BODY struct scheduler_control *scheduler_control(void);
/* Threads of the target; only where TARGET_ONLY. */
/* Which task it is, by the lower half of its address; 1 for one that was there before. */
BODY __u32 *target_thread(__u32 tid);
BODY long target_thread_add(__u32 tid, __u32 task);
BODY void target_thread_remove(__u32 tid);
/* Only where user space has other numbers than the machine. Of threads that have ended, by the
 * machine's number, what running_numbers was: they leave a CPU once more. */
BODY __u64 *ended_thread(__u32 tid);
BODY void ended_thread_add(__u32 tid, __u64 numbers);
BODY void ended_thread_remove(__u32 tid);
/* And strangers whose name has been told. */
BODY int is_named(__u32 stranger);
BODY void named_add(__u32 stranger);
BODY void named_remove(__u32 stranger);
/* Per CPU: whether the thread that has taken over from one of the target's still runs. */
BODY __u32 *successor_runs(void);

BODY int is_target_thread(__u32 tid) { return target_thread(tid) != 0; }

BODY __u64 boot_offset(void) {
  struct scheduler_control *c = scheduler_control();
  return c ? c->boot_offset : 0;
}

BODY int is_recording(void) {
  struct scheduler_control *c = scheduler_control();
  return c && c->active;
}

BODY __u32 task_u32(__u64 task, __s32 offset) {
  __u32 value = 0;
  bpf_probe_read_kernel(&value, sizeof(value), (void *)(task + offset));
  return value;
}

#include "throttling.h"

/* A thread by user space's number. */
BODY __u32 thread_number(__u64 task) {
  __u32 tid = task_u32(task, TASK_PID), inside;
  if (!PID_LEVEL || !tid)
    return tid;
  inside = number_inside(task);
  if (inside)
    return inside;
  __u64 *ended = ended_thread(tid);
  return ended ? (__u32)*ended : STRANGER + tid;
}

/* As running_ids, with numbers for those whom user space does not know, too. */
BODY __u64 running_numbers(void) {
  __u64 machines = bpf_get_current_pid_tgid(), inside;
  if (!PID_LEVEL || !machines)
    return machines;
  inside = running_ids();
  if (inside)
    return inside;
  __u64 *ended = ended_thread(machines);
  return ended ? *ended : machines + ((__u64)STRANGER << 32 | STRANGER);
}

BODY __u32 running_thread(void) { return running_numbers(); }

/* Whether a task, whose number is `tid`, is one of the target's threads. */
BODY int is_of_target(struct scheduler_control *c, __u64 task, __u32 tid) {
  if (TARGET_ONLY)
    return is_target_thread(tid);
  if (!PID_LEVEL)
    return task_u32(task, TASK_TGID) == c->target;
  return tid < STRANGER && number_inside(leader_of(task)) == c->target;
}

/* As sched_switch's own record has it: the highest of the bits that are reported. */
BODY __u32 reported_state(__u32 state, __u32 exit_state) {
  __u32 bits = (state | exit_state) & STATE_REPORTED;
  if ((state & TASK_IDLE) == TASK_IDLE)
    return STATE_IDLE;
  if (state & (TASK_RTLOCK_WAIT | TASK_FROZEN))
    return TASK_UNINTERRUPTIBLE;
  bits |= bits >> 1;
  bits |= bits >> 2;
  bits |= bits >> 4;
  return bits ^ bits >> 1;
}

/* The system call that the running thread is in, -1 for none: then a fault brought it here. */
BODY __u64 current_call(void) {
  __s32 call = -1;
  long registers = bpf_task_pt_regs(bpf_get_current_task_btf());
  bpf_probe_read_kernel(&call, sizeof(call), (void *)(registers + CALL_OFFSET));
  return (__u32)call | 1ULL << SWITCH_HAS_CALL;
}

BODY __u64 emit_name(void *ctx, __u8 kind, __u32 tid, __u64 at) {
  __u64 name[NAME_BYTES / 8] = {};
  /* Behind its end there may be anything of the kernel's. */
  bpf_probe_read_kernel_str(name, sizeof(name), (void *)at);
  return emit_of(ctx, kind, tid, name[0], name[1]);
}

/* When it is met: /proc does not know it. */
BODY void name_stranger(void *ctx, __u32 tid, __u64 task) {
  if (PID_LEVEL && tid >= STRANGER && !is_named(tid) &&
      emit_name(ctx, KIND_NEWNAME, tid, task + TASK_COMM))
    named_add(tid);
}

/* sched_switch(preempt, prev, next, and since 5.18 prev's state) */
BODY int handle_switch(void *ctx) {
  struct scheduler_control *c = scheduler_control();
  if (!c || !c->active)
    return 0;
  __u64 prev = ARGUMENT_OF(ctx, 1), task = ARGUMENT_OF(ctx, 2);
  __u32 next = thread_number(task), state = STATE_PREEMPTED;
  __u64 running = running_numbers();
  if (!(ARGUMENT_OF(ctx, 0) & 0xff)) {
    if (SWITCH_TELLS_STATE)
      state = ARGUMENT_OF(ctx, 3);
    else
      state = task_u32(prev, TASK_STATE);
    state = reported_state(state, task_u32(prev, TASK_EXIT_STATE));
  }
  __u64 b = 0;
  if (running >> 32 == c->target)
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
  /* Of one that could run on, too: in which call it is tells whether it has yielded. */
  if (CALL_OFFSET >= 0 && (b >> SWITCH_FROM_TARGET & 1) && state != STATE_PREEMPTED)
    b |= current_call();
  if ((b >> SWITCH_FROM_TARGET & 1) && (!state || state == STATE_PREEMPTED))
    b |= left_throttled(c, prev);
  if (c->throttled && !(b >> SWITCH_THROTTLED & 1) && is_of_target(c, task, next))
    b |= throttled_time(queue_of(task));
  name_stranger(ctx, running, prev);
  name_stranger(ctx, next, task);
  emit_of(ctx, KIND_SWITCH, running,
          next | (__u64)state << 32 | (__u64)task_u32(task, TASK_PRIO) << 48, b);
  return 0;
}

/* sched_waking(task) */
BODY int handle_waking(void *ctx) {
  struct scheduler_control *c = scheduler_control();
  if (!c || !c->active)
    return 0;
  __u64 task = ARGUMENT_OF(ctx, 0), b = 0;
  __u32 tid = thread_number(task);
  if (TARGET_ONLY && !is_target_thread(tid))
    return 0;
  if (c->throttled && is_of_target(c, task, tid))
    b = woken_throttled(task);
  name_stranger(ctx, tid, task);
  emit(ctx, KIND_WAKING,
       tid | (__u64)(task_u32(task, TASK_CPU) & 0xffff) << 32 |
           (__u64)task_u32(task, TASK_PRIO) << 48,
       b);
  return 0;
}

/* task_newtask(task, clone flags) */
BODY int handle_newtask(void *ctx) {
  struct scheduler_control *c = scheduler_control();
  if (!c || !c->active)
    return 0;
  __u64 maker = running_numbers();
  __u64 task = ARGUMENT_OF(ctx, 0), flags = ARGUMENT_OF(ctx, 1);
  __u32 tid = thread_number(task);
  emit_name(ctx, KIND_NEWNAME, tid, task + TASK_COMM);
  emit(ctx, KIND_NEWTASK, tid | maker >> 32 << 32, flags);
  if (TARGET_ONLY && maker >> 32 == c->target && flags & CLONE_THREAD)
    /* Without room its switches cannot be recognised: that it exists has been lost. */
    if (target_thread_add(tid, task))
      count_loss(bpf_get_smp_processor_id(), KIND_NEWTASK);
  return 0;
}

/* task_rename(task, new name) */
BODY int handle_rename(void *ctx) {
  if (!is_recording())
    return 0;
  emit_name(ctx, KIND_RENAME, thread_number(ARGUMENT_OF(ctx, 0)), ARGUMENT_OF(ctx, 1));
  return 0;
}

/* sched_process_exit(task), the one that runs */
BODY int handle_exit(void *ctx) {
  if (!is_recording())
    return 0;
  __u64 running = running_numbers();
  if (PID_LEVEL && (__u32)running < STRANGER)
    ended_thread_add(bpf_get_current_pid_tgid(), running);
  emit_of(ctx, KIND_EXIT, running, 0, 0);
  return 0;
}

/* sched_process_free(task): after its last switch. An exit does not end a thread's running. */
BODY int handle_free(void *ctx) {
  if (!is_recording())
    return 0;
  __u64 task = ARGUMENT_OF(ctx, 0);
  __u32 tid = thread_number(task);
  if (TARGET_ONLY) {
    /* By now its number may be another one's. */
    __u32 *whose = target_thread(tid);
    if (whose && (*whose == 1 || *whose == (__u32)task))
      target_thread_remove(tid);
  }
  if (PID_LEVEL) {
    ended_thread_remove(task_u32(task, TASK_PID));
    named_remove(tid);
  }
  emit_of(ctx, KIND_FREE, tid, 0, 0);
  return 0;
}

/* sched_blocked_reason, which only some kernels have. No raw tracepoint: where the task was blocked
 * stands only in the record. Returns 1, as a 0 would keep it from everybody else's perf events. */
BODY int handle_reason(void *ctx) {
  struct reason r;
  if (!is_recording())
    return 1;
  bpf_probe_read_kernel(&r, sizeof(r), ctx);
  char *start = (char *)&r;
  __u32 tid = *(__u32 *)(start + (REASON_PID & (REASON_MAX - 4)));
  if (TARGET_ONLY && !is_target_thread(tid))
    return 1;
  emit_of(ctx, KIND_REASON, tid, *(__u64 *)(start + (REASON_CALLER & (REASON_MAX - 8))),
          *(__u8 *)(start + (REASON_IO_WAIT & (REASON_MAX - 1))));
  return 1;
}

#endif
