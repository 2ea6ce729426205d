/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Catches a launched command, and what it starts, at the two moments at which an engine can
 * appear: after exec, and when the dynamic loader has changed the list of objects. The process
 * is stopped there, before it runs any code of the new object, until user space has looked.
 *
 * A dialect (launch.c, launch.bpf.c) defines the map of the family, the parameter CHILD_OFFSET and
 * the functions declared here.
 */
#ifndef PROFINFER_LAUNCH_H
#define PROFINFER_LAUNCH_H

#define BODY static __always_inline
#define SIGNAL_STOP 19

/* Process ids of the command and its descendants. */
BODY int is_family(__u32 pid);
BODY void family_add(__u32 pid);
/* Wakes user space. */
BODY void tell_stopped(void *ctx, __u32 pid);

BODY int stop_here(void *ctx) {
  __u32 pid = bpf_get_current_pid_tgid() >> 32;
  if (is_family(pid) && bpf_send_signal(SIGNAL_STOP) == 0)
    tell_stopped(ctx, pid);
  return 0;
}

/* CHILD_OFFSET: where child_pid stands in the tracepoint's record. */
BODY int follow_fork(void *ctx) {
  __u32 child = 0;
  if (!is_family(bpf_get_current_pid_tgid() >> 32))
    return 0;
  bpf_probe_read_kernel(&child, sizeof(child), ctx + CHILD_OFFSET);
  family_add(child);
  return 0;
}

#endif
