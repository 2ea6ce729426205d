/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Counters of the thread that runs into a probe, exact whoever else uses its CPU.
 *
 * Every event is opened once per CPU, where it counts all tasks. At each context switch what it
 * has counted on this CPU since the last one goes to the thread that leaves; in a probe, the
 * thread's sum and what was counted since it came make its reading. So nothing need be known of a
 * thread before its first probe, and all differences between two readings of a thread are its own.
 * Kernel code that a switch itself runs after the tracepoint belongs to the thread that comes.
 *
 * A kernel may leave out the program at a switch. Then who runs is not who was switched to, or has
 * left its CPU more often than was seen: what it has counted before is no base for what it counts
 * afterwards, and its readings say so by another generation.
 */
#ifndef PROFINFER_COUNTERS_H
#define PROFINFER_COUNTERS_H

/* A reading that a context switch has interrupted is begun again, so many times. */
#define COUNTER_TRIES 4

/* Room for a reading, rounded up so that a mask bounds the index. */
#define COUNTER_ROOM 64

#define ORDERED() __asm__ volatile("" ::: "memory")

/* This CPU at its last context switch. Before the first one all is 0: as good a beginning as any,
 * since only differences count. */
struct counter_cpu {
  __u64 switches;
  __u64 running; /* the task_struct of who came */
  __u64 ts;
  struct bpf_perf_event_value at[COUNTER_MAX];
};

/* A thread, up to when it last left a CPU. */
struct counter_thread {
  __u64 generation;
  __u64 left; /* times that it had left a CPU when last seen, and one; 0 before that */
  __u64 cpu_ns;
  __u64 value[COUNTER_MAX];
  __u64 lacking[COUNTER_MAX]; /* ns of cpu_ns in which the event was not counted */
  __u64 reading[COUNTER_ROOM];
};

/* ---- What a dialect provides ---- */
BODY struct counter_cpu *counter_cpu(void);
BODY struct counter_thread *counter_thread(__u32 tid); /* makes it */
BODY struct counter_thread *counter_thread_known(__u32 tid);
BODY void counter_thread_forget(__u32 tid);
BODY void counter_read(__u32 index, struct bpf_perf_event_value *value); /* 0 where there is none */

/* Adds what an event has counted on this CPU since its last switch `elapsed` ns ago. */
BODY void count_since(struct bpf_perf_event_value *then, struct bpf_perf_event_value *now,
                      __u64 elapsed, __u64 *value, __u64 *lacking) {
  __u64 enabled = now->enabled - then->enabled, running = now->running - then->running;
  *value += now->counter - then->counter;
  /* Equal: it had its hardware all the time. Else the hardware was shared, or the event does not
   * exist here; of what waits for its turn old kernels give a wrong enabled time. */
  if ((!enabled || enabled != running) && running < elapsed)
    *lacking += elapsed - running;
}

/* What user space gets: CPU time, values, then for each group of events that share their hardware
 * the time that it was not counted. A value that nobody knows is COUNTER_UNKNOWN. */
BODY void fill_reading(struct counter_thread *t, struct counter_cpu *last, __u32 cpu) {
  __u32 counters = COUNTERS, leaders = COUNTER_LEADERS, always = COUNTER_ALWAYS;
  __u32 sent = 1 + counters;
  __u64 elapsed = bpf_ktime_get_ns() - last->ts;
  t->reading[0] = (t->cpu_ns + elapsed) | t->generation << COUNTER_GENERATION;
  ROLLED
  for (__u32 i = 0; i < COUNTER_MAX; i++) {
    if (i >= counters)
      break;
    struct bpf_perf_event_value now = {};
    __u64 value = t->value[i], lacking = t->lacking[i];
    counter_read(i * CPU_COUNT + cpu, &now);
    count_since(&last->at[i], &now, elapsed, &value, &lacking);
    if (lacking && (always >> i & 1))
      value = COUNTER_UNKNOWN;
    t->reading[1 + i] = value;
    if (leaders >> i & 1) {
      OPAQUE(sent);
      t->reading[sent & (COUNTER_ROOM - 1)] = lacking;
      sent++;
    }
  }
}

/* Whether the thread that runs is not the one that this CPU was seen to switch to. */
BODY int is_unannounced(struct counter_cpu *last) {
  return last->running && last->running != bpf_get_current_task();
}

/* How often the running thread has left a CPU, and one; 0 where the kernel does not tell. */
BODY __u64 times_left(void) {
  __u64 times[2] = {}; /* willingly, and not */
  if (TASK_NVCSW < 0)
    return 0;
  bpf_probe_read_kernel(times, sizeof(times), (void *)(bpf_get_current_task() + TASK_NVCSW));
  return times[0] + times[1] + 1;
}

/* A thread has left so many times; that should be `more` than when it was seen before. */
BODY void see_left(struct counter_thread *t, __u64 left, __u64 more) {
  if (t->left && left != t->left + more)
    t->generation++;
  t->left = left;
}

/* The reading of the running thread; 0 when there can be none. */
BODY __u64 *read_counters(__u32 cpu) {
  struct counter_thread *t = counter_thread((__u32)bpf_get_current_pid_tgid());
  struct counter_cpu *last = counter_cpu();
  if (!t || !last)
    return 0;
  ROLLED
  for (int i = 0; i < COUNTER_TRIES; i++) {
    __u64 switches = *(volatile __u64 *)&last->switches;
    __u64 left = times_left();
    ORDERED();
    if (is_unannounced(last))
      return 0;
    see_left(t, left, 0);
    fill_reading(t, last, cpu);
    ORDERED();
    if (*(volatile __u64 *)&last->switches == switches && times_left() == left)
      return t->reading;
  }
  return 0;
}

/* The running thread leaves this CPU for another one, the task_struct `next`. */
BODY int handle_count_switch(__u64 next) {
  __u32 cpu = bpf_get_smp_processor_id(), counters = COUNTERS;
  struct counter_thread *t = counter_thread_known((__u32)bpf_get_current_pid_tgid());
  struct counter_cpu *last = counter_cpu();
  if (!last)
    return 0;
  __u64 ts = bpf_ktime_get_ns(), elapsed = ts - last->ts;
  ROLLED
  for (__u32 i = 0; i < COUNTER_MAX; i++) {
    if (i >= counters)
      break;
    struct bpf_perf_event_value now = {};
    counter_read(i * CPU_COUNT + cpu, &now);
    OPAQUE(t); /* or its fields' addresses are made before it is known to be one */
    if (t)
      count_since(&last->at[i], &now, elapsed, &t->value[i], &t->lacking[i]);
    last->at[i] = now;
  }
  if (t) {
    t->cpu_ns += elapsed;
    t->generation += is_unannounced(last);
    see_left(t, times_left(), 1); /* the kernel has counted it already */
  }
  last->running = next;
  last->ts = ts;
  last->switches++;
  return 0;
}

BODY int handle_count_exit(void) {
  counter_thread_forget((__u32)bpf_get_current_pid_tgid());
  return 0;
}

#endif
