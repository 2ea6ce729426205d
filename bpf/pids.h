/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Threads and processes by the numbers that user space knows them by: the machine's, or those of
 * the PID namespace that it lives in, which the namespaces below that one have, too. What they need
 * of a task is read at the offsets that the kernel's BTF tells (recorder/pid_namespace.c).
 */
#ifndef PROFINFER_PIDS_H
#define PROFINFER_PIDS_H

#define BODY static __always_inline

BODY __u64 read_kernel(__u64 address) {
  __u64 value = 0;
  bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
  return value;
}

/* The struct pid of a task; 0 once it has ended and is forgotten, which may be before its last
 * switch. */
BODY __u64 pid_of(__u64 task) { return read_kernel(task + TASK_THREAD_PID); }

BODY __u64 leader_of(__u64 task) { return read_kernel(task + TASK_GROUP_LEADER); }

/* The number of a task in user space's PID namespace; 0 where it has none. */
BODY __u32 number_inside(__u64 task) {
  __u64 pid = pid_of(task), number[2] = {};
  __u32 depth = 0, inode = 0;
  if (!pid || bpf_probe_read_kernel(&depth, sizeof(depth), (void *)(pid + PID_DEPTH)) ||
      depth < (__u32)PID_LEVEL)
    return 0;
  bpf_probe_read_kernel(number, sizeof(number), (void *)(pid + PID_NUMBER));
  bpf_probe_read_kernel(&inode, sizeof(inode), (void *)(number[1] + NAMESPACE_INODE));
  return inode == (__u32)PID_NAMESPACE ? number[0] : 0;
}

/* Process, high, and thread, low, that run, as bpf_get_current_pid_tgid has the machine's; 0 where
 * user space knows neither. */
BODY __u64 running_ids(void) {
  if (!PID_LEVEL)
    return bpf_get_current_pid_tgid();
  __u64 task = bpf_get_current_task();
  __u32 thread = number_inside(task);
  return thread ? (__u64)number_inside(leader_of(task)) << 32 | thread : 0;
}

#endif
