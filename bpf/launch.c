/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Catches a launched command, and what it starts, at the two moments at which an engine can
 * appear: after exec, and when the dynamic loader has changed the list of objects. The process
 * is stopped there, before it runs any code of the new object, until user space has looked.
 * BCC dialect: this program ends before recording begins.
 */
#include <uapi/linux/ptrace.h>

#define SIGNAL_STOP 19

BPF_HASH(family, u32, u32, 4096); /* process ids of the command and its descendants */
BPF_RINGBUF_OUTPUT(stops, 16);

static __always_inline int stop_here(void) {
  u32 pid = bpf_get_current_pid_tgid() >> 32;
  if (!family.lookup(&pid))
    return 0;
  if (bpf_send_signal(SIGNAL_STOP) == 0)
    stops.ringbuf_output(&pid, sizeof(pid), 0);
  return 0;
}

int on_exec(void *ctx) { return stop_here(); }

int on_objects_changed(struct pt_regs *ctx) { return stop_here(); }

/* CHILD_OFFSET: where child_pid stands in the tracepoint's record. */
int on_fork(void *ctx) {
  u32 child = 0, one = 1, pid = bpf_get_current_pid_tgid() >> 32;
  if (!family.lookup(&pid))
    return 0;
  bpf_probe_read_kernel(&child, sizeof(child), ctx + CHILD_OFFSET);
  family.update(&child, &one);
  return 0;
}
