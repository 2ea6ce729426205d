/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Catches a launched command, and what it starts, at the moments at which an engine can appear:
 * after exec, when the dynamic loader has changed the list of objects (of both only where there may
 * be an engine now, as far as the kernel can tell), and when a process begins that one with an
 * engine has forked. The process is stopped there, before it runs any code of the
 * new object, until user space has looked. And where user space has asked for that, when an engine
 * begins to work.
 *
 * A dialect (launch.c, launch.bpf.c) defines the maps of the family and of who is held, the
 * parameters CHILD_OFFSET and GROUP_DEAD_OFFSET and the functions declared here.
 */
#ifndef PROFINFER_LAUNCH_H
#define PROFINFER_LAUNCH_H

#include "parameters.h"
#include "pids.h"

#define SIGNAL_STOP 19

/* The lowest bits of the time since when somebody is held: why. Without any: it has loaded
 * something. */
#define AT_WORK 1    /* it is about to work */
#define AFTER_EXEC 2 /* it has become another program */
#define FORKED 4     /* it begins, with all that the process has which has forked it */
#define SETTLED 16   /* and what it was before has been decided about */
#define WHY 31

/* What is known of a member of the family. */
#define MEMBER 1
#define HOLDER 2 /* it holds an engine: so does who is forked by it */
#define WAITED 4 /* and is stopped when it is about to work */
#define BORN 8   /* and has not run yet */
/* SETTLED, as above, while it is that: user space has decided about it. */
#define UNTOLD 32 /* it is another program than user space has last been told of */

/* The first arguments of an engine's function: where it is given a graph, that is among them. */
struct work {
  __u64 arguments[2];
};

/* The command and its descendants, by process id; and for a moment new threads, which have an id,
 * too. 0: no member. */
BODY __u32 family_find(__u32 pid);
BODY void family_set(__u32 pid, __u32 what);
BODY void family_delete(__u32 pid);
/* Who is stopped by us, and since when (bpf_ktime_get_ns). User space takes out whom it lets go
 * on. Adding fails when there is no room. */
BODY long held_add(__u32 pid, __u64 now);
BODY void held_delete(__u32 pid);
/* Whether nothing that the process which runs can execute may be an engine; as a new program, in
 * which the loader will tell of what comes, too. */
BODY int is_known(void);
BODY int is_known_program(void);
/* With which arguments somebody works. */
BODY void work_set(__u32 pid, const struct work *work);
/* Wakes user space; fails on a CPU for which it has no buffer. */
BODY long tell_stopped(void *ctx, __u32 pid);

/* Nobody is stopped of whom user space would not hear: it is stopped last. */
BODY int stop(void *ctx, __u64 why) {
  __u32 pid = running_ids() >> 32;
  if (!family_find(pid) || held_add(pid, (bpf_ktime_get_ns() & ~(__u64)WHY) | why))
    return 0;
  if (tell_stopped(ctx, pid) || bpf_send_signal(SIGNAL_STOP))
    held_delete(pid);
  return 0;
}

BODY int stop_loaded(void *ctx) {
  __u32 pid = running_ids() >> 32, what = family_find(pid);
  if (!what || is_known())
    return 0;
  if (what & UNTOLD)
    family_set(pid, what & ~UNTOLD);
  return stop(ctx, what & UNTOLD ? AFTER_EXEC : 0);
}

BODY int see_work(__u64 first, __u64 second) {
  struct work work = {{first, second}};
  work_set(running_ids() >> 32, &work);
  return 0;
}

BODY int stop_at_work(void *ctx, __u64 first, __u64 second) {
  if (!(family_find(running_ids() >> 32) & WAITED))
    return 0;
  see_work(first, second);
  return stop(ctx, AT_WORK);
}

/* What it held has gone with the old program. */
BODY int stop_after_exec(void *ctx) {
  __u32 pid = running_ids() >> 32, what = family_find(pid);
  if (!what)
    return 0;
  if (is_known_program() && !(what & SETTLED)) {
    family_set(pid, MEMBER | UNTOLD);
    return 0;
  }
  family_set(pid, MEMBER);
  return stop(ctx, AFTER_EXEC | (what & SETTLED));
}

/* A child may have the PID of a process that has ended: what was known of that one goes. */
BODY int follow(void *ctx, __u32 child) {
  held_delete(child);
  __u32 parent = family_find(running_ids() >> 32);
  if (!parent) {
    family_delete(child);
    return 0;
  }
  family_set(child, parent & HOLDER ? MEMBER | HOLDER | WAITED | BORN : MEMBER);
  return 0;
}

/* CHILD_OFFSET: where child_pid, the machine's, stands in the tracepoint's record. */
BODY int follow_fork(void *ctx) {
  __u32 child = 0;
  if (bpf_probe_read_kernel(&child, sizeof(child), ctx + CHILD_OFFSET))
    return 0;
  return follow(ctx, child);
}

/* The same of the raw tracepoint, sched_process_fork(parent, child), where user space knows
 * processes by other numbers. */
BODY int follow_fork_inside(void *ctx) {
  __u32 child = number_inside(((__u64 *)ctx)[1]);
  return child ? follow(ctx, child) : 0;
}

/* In a new task, before it returns to user space for the first time. */
BODY int stop_born(void *ctx) {
  __u64 id = running_ids();
  __u32 task = id, what = family_find(task);
  if (!(what & BORN))
    return 0;
  if (task != id >> 32) {
    family_delete(task); /* a thread */
    return 0;
  }
  family_set(task, what & ~BORN);
  return stop(ctx, FORKED);
}

/* GROUP_DEAD_OFFSET: where the tracepoint's record says that no thread is left; -1: before
 * Linux 6.16 it does not. The end of the first thread is not that of the process, which may go on,
 * or become another program by the hand of another thread: there a process stays known until
 * another one gets its PID. */
BODY int leave_family(void *ctx) {
  __u64 id = running_ids();
  __u32 task = id, pid = id >> 32;
  __u8 is_last = 0;
  if (task != pid)
    family_delete(task);
  if (GROUP_DEAD_OFFSET >= 0)
    bpf_probe_read_kernel(&is_last, sizeof(is_last), ctx + GROUP_DEAD_OFFSET);
  if (is_last)
    family_delete(pid);
  return 0;
}

#endif
