/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Catches a launched command, and what it starts, at the two moments at which an engine can
 * appear: after exec, and when the dynamic loader has changed the list of objects. The process
 * is stopped there, before it runs any code of the new object, until user space has looked. And
 * where user space has asked for that, when an engine begins to work.
 *
 * A dialect (launch.c, launch.bpf.c) defines the maps of the family and of who is held, the
 * parameter CHILD_OFFSET and the functions declared here.
 */
#ifndef PROFINFER_LAUNCH_H
#define PROFINFER_LAUNCH_H

#define BODY static __always_inline
#define SIGNAL_STOP 19

/* The lowest bit of the time since when somebody is held: it was about to work, and has loaded
 * nothing. */
#define AT_WORK 1

/* Process ids of the command and its descendants. */
BODY int is_family(__u32 pid);
BODY void family_add(__u32 pid);
BODY void family_delete(__u32 pid);
/* Who is stopped by us, and since when (bpf_ktime_get_ns). User space takes out whom it lets go
 * on. Adding fails when there is no room. */
BODY long held_add(__u32 pid, __u64 now);
BODY void held_delete(__u32 pid);
/* Wakes user space; fails on a CPU for which it has no buffer. */
BODY long tell_stopped(void *ctx, __u32 pid);

/* Nobody is stopped of whom user space would not hear: it is stopped last. */
BODY int stop(void *ctx, __u64 at_work) {
  __u32 pid = bpf_get_current_pid_tgid() >> 32;
  if (!is_family(pid) || held_add(pid, (bpf_ktime_get_ns() & ~(__u64)AT_WORK) | at_work))
    return 0;
  if (tell_stopped(ctx, pid) || bpf_send_signal(SIGNAL_STOP))
    held_delete(pid);
  return 0;
}

BODY int stop_here(void *ctx) { return stop(ctx, 0); }

BODY int stop_at_work(void *ctx) { return stop(ctx, AT_WORK); }

/* CHILD_OFFSET: where child_pid stands in the tracepoint's record. The child may have the PID of
 * a process that has ended: what was known of that one goes. */
BODY int follow_fork(void *ctx) {
  __u32 child = 0;
  if (bpf_probe_read_kernel(&child, sizeof(child), ctx + CHILD_OFFSET))
    return 0;
  held_delete(child);
  if (is_family(bpf_get_current_pid_tgid() >> 32))
    family_add(child);
  else
    family_delete(child);
  return 0;
}

#endif
