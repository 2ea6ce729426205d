/* SPDX-License-Identifier: Apache-2.0 */
/* What the running kernel tells of its own types: where the fields of a task stand, and what a
 * tracepoint hands over. */
#ifndef PROFINFER_KERNEL_TYPES_H
#define PROFINFER_KERNEL_TYPES_H

#include <stddef.h>

struct kernel_types {
  /* Of struct task_struct, in bytes. */
  int task_pid, task_prio, task_comm, task_state, task_exit_state, task_cpu;
  int switch_tells_state; /* 1: sched_switch hands over the state that it read */
  char problem[160];      /* why one of the above cannot be told; else "" */
  /* What a thread's numbers in PID namespaces hang on (bpf/pids.h); -1 where it is not told. */
  int task_thread_pid, task_group_leader, pid_depth, pid_numbers, namespace_inode;
  int switch_counts; /* where a task says how often it has left a CPU, willingly and, right
                        behind, not; -1 where the kernel does not tell */
  /* How a task is throttled (bpf/throttling.h); -1 where the kernel does not tell. */
  int task_tgid, task_throttled, task_queue, queue_throttles, queue_throttled_time, queue_cpu,
      cpu_clock;
  /* What a process has mapped (bpf/known_files.h): the numbers of the functions that walk through
   * it, and where it is told of a file which it is; -1 where the kernel does not tell. */
  int areas_begin, areas_next, areas_end;
  int task_fs, fs_root, area_flags, area_file, file_inode, inode_number, inode_size,
      inode_changed_s, inode_changed_ns, inode_super, super_device;
};

/* All of it, found in the bytes of a BTF file. */
void kernel_types_find(const void *btf, size_t size, struct kernel_types *found);

/* This kernel's. They are read once, in a process of its own that has ended when this returns: the
 * file has more bytes than all the rest of a recorder. */
const struct kernel_types *kernel_types(void);

/* `switch_counts` of them: TASK_NVCSW of bpf/parameters.h. */
int kernel_switch_counts(void);

/* The most memory that the process which read them has had, in kB; 0 when none did. */
long kernel_types_peak_kb(void);

#endif
