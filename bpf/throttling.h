/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Whether a thread of the target that could run is kept from its CPU, since its cgroup, or one
 * above, has used up its quota. The kernel's own state, at the offsets that its BTF tells.
 *
 * Since Linux 6.18 a task is throttled on its way back to user space, and says so. Before, its
 * group's queue on a CPU is, with every task in it, and its parents' counts in it; what runs
 * meanwhile is about to be switched out, and both happens before the tracepoint sched_switch.
 * A task may be in no fair class at the time: then its queue does not concern it.
 *
 * When that ends no tracepoint tells. But since Linux 6.6 the queue counts for how long it has been
 * throttled: what it has counted when the thread leaves, and when it runs again, says how much of
 * the wait was the quota's. That is read only once a thread of the target has been throttled.
 */
#ifndef PROFINFER_THROTTLING_H
#define PROFINFER_THROTTLING_H

/* Priorities below are of real-time classes. */
#define MAX_RT_PRIO 100

BODY __u64 queue_of(__u64 task) { return read_kernel(task + TASK_QUEUE); }

/* What a queue has counted, as a switch's record bears it; 0 where the kernel does not. */
BODY __u64 throttled_time(__u64 queue) {
  __u64 counted[2] = {}; /* since when it is throttled, and for how long it has been before */
  if (QUEUE_THROTTLED_TIME < 0)
    return 0;
  bpf_probe_read_kernel(counted, sizeof(counted), (void *)(queue + QUEUE_THROTTLED_TIME));
  if (counted[0])
    counted[1] += read_kernel(read_kernel(queue + QUEUE_CPU) + CPU_CLOCK) - counted[0];
  return 1ULL << SWITCH_HAS_THROTTLED_TIME | counted[1] >> THROTTLED_UNIT << SWITCH_THROTTLED_TIME;
}

BODY int is_queue_throttled(__u64 task) {
  return QUEUE_THROTTLES >= 0 && task_u32(queue_of(task), QUEUE_THROTTLES) &&
         task_u32(task, TASK_PRIO) >= MAX_RT_PRIO;
}

BODY int is_throttled(__u64 task) {
  __u8 said = 0;
  if (TASK_THROTTLED < 0)
    return is_queue_throttled(task);
  bpf_probe_read_kernel(&said, sizeof(said), (void *)(task + TASK_THROTTLED));
  return said;
}

/* Of a thread of the target that leaves its CPU though it could run on: flags of its switch. */
BODY __u64 left_throttled(struct scheduler_control *c, __u64 task) {
  if (!is_throttled(task))
    return 0;
  c->throttled = 1;
  return 1ULL << SWITCH_THROTTLED | throttled_time(queue_of(task));
}

/* Of one that is woken where it has slept, which is known of whole queues only. */
BODY __u64 woken_throttled(__u64 task) {
  return TASK_THROTTLED < 0 && is_queue_throttled(task) ? 1ULL << SWITCH_THROTTLED : 0;
}

#endif
