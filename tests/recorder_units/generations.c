/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers that count (bpf/counters.h), compiled for this machine: the kernel's part is played
 * here, one CPU, one event. What they say of a thread after switches that the kernel has left out
 * must be told from what it said before. */
#include "harness.h"

#include <linux/bpf.h>
#include <linux/types.h>

#include "../../bpf/records.h"

#define BODY static
#define ROLLED
#define OPAQUE(x)
#define COUNTERS 1
#define COUNTER_LEADERS 1
#define COUNTER_ALWAYS never_waits
#define CPU_COUNT 1
#define TASK_NVCSW task_nvcsw

/* The kernel: who runs, since when, what was counted. */
struct task {
  uint64_t willing, forced; /* how often it left its CPU */
};
static struct task tasks[8];
static unsigned running, never_waits;
static int task_nvcsw;
static uint64_t now_ns;
static struct bpf_perf_event_value event;
static void (*amid_reading)(void); /* happens once, while a reading is made */

static uint64_t bpf_ktime_get_ns(void) { return now_ns; }
static uint64_t bpf_get_current_task(void) { return (uintptr_t)&tasks[running]; }
static uint64_t bpf_get_current_pid_tgid(void) { return 1ull << 32 | running; }
static uint32_t bpf_get_smp_processor_id(void) { return 0; }
static void bpf_probe_read_kernel(void *to, size_t size, const void *from) {
  memcpy(to, from, size);
}

#include "../../bpf/counters.h"

static struct counter_cpu cpu;
static struct counter_thread threads[8];
static bool is_made[8];

static struct counter_cpu *counter_cpu(void) { return &cpu; }

static struct counter_thread *counter_thread(__u32 tid) {
  is_made[tid] = true;
  return &threads[tid];
}

static struct counter_thread *counter_thread_known(__u32 tid) {
  return is_made[tid] ? &threads[tid] : 0;
}

static void counter_thread_forget(__u32 tid) {
  is_made[tid] = false;
  threads[tid] = (struct counter_thread){0};
}

static void counter_read(__u32 index, struct bpf_perf_event_value *value) {
  void (*happens)(void) = amid_reading;
  CHECK_EQUAL(index, 0);
  *value = event;
  amid_reading = 0;
  if (happens)
    happens();
}

/* ---- What happens */

static void begin(void) {
  memset(tasks, 0, sizeof(tasks));
  memset(threads, 0, sizeof(threads));
  memset(is_made, 0, sizeof(is_made));
  memset(&cpu, 0, sizeof(cpu));
  event = (struct bpf_perf_event_value){0};
  running = 1;
  now_ns = 1000;
  task_nvcsw = 0;
  never_waits = 0;
  amid_reading = 0;
}

/* The running thread runs for so long, and so much is counted. */
static void run(uint64_t ns, uint64_t counted) {
  now_ns += ns;
  event.enabled += ns;
  event.running += ns;
  event.counter += counted;
}

/* Another one comes. The kernel has counted that already when a program at the tracepoint runs. */
static void switch_to(unsigned next, bool is_seen) {
  tasks[running].willing++;
  if (is_seen)
    handle_count_switch((uintptr_t)&tasks[next]);
  running = next;
}

static __u64 *reading(void) { return read_counters(0); }
static uint64_t cpu_ns(const __u64 *is) { return *is & ((1ull << COUNTER_GENERATION) - 1); }
static uint64_t generation(const __u64 *is) { return *is >> COUNTER_GENERATION; }

static void differences_are_the_threads_own(void) {
  begin();
  switch_to(2, true);
  switch_to(1, true);
  run(10, 100);
  __u64 first[3], *is = reading();
  CHECK(is);
  memcpy(first, is, sizeof(first));
  run(5, 50);
  switch_to(2, true);
  run(1000, 7777); /* another one's */
  switch_to(1, true);
  run(20, 3);
  is = reading();
  CHECK_EQUAL(cpu_ns(is) - cpu_ns(first), 25);
  CHECK_EQUAL(is[1] - first[1], 53);
  CHECK_EQUAL(is[2] - first[2], 0); /* it always had its hardware */
  CHECK_EQUAL(generation(is), generation(first));
}

static void a_switch_that_was_left_out_begins_a_generation(void) {
  begin();
  switch_to(2, true);
  switch_to(1, true);
  uint64_t before = generation(reading());
  /* It has left and has come back, and nobody has seen either: who runs is who was seen last, but
   * it has left its CPU once more. */
  switch_to(2, false);
  run(100, 100);
  switch_to(1, false);
  __u64 *is = reading();
  CHECK(is);
  CHECK_EQUAL(generation(is), before + 1);
  CHECK_EQUAL(generation(reading()), before + 1); /* one is enough */
}

static void of_whom_nobody_announced_nothing_is_said(void) {
  begin();
  switch_to(2, true);
  switch_to(1, false);
  CHECK(!reading());
  /* From its next switches on it is known again, in a generation of its own. */
  is_made[1] = true;
  uint64_t before = threads[1].generation;
  switch_to(2, true);
  switch_to(1, true);
  CHECK(reading());
  CHECK_EQUAL(generation(reading()), before + 1);
}

static void a_kernel_that_does_not_count_switches(void) {
  begin();
  task_nvcsw = -1;
  switch_to(2, true);
  switch_to(1, true);
  uint64_t before = generation(reading());
  switch_to(2, true);
  switch_to(1, true);
  CHECK_EQUAL(generation(reading()), before);
  switch_to(2, true);
  switch_to(1, false);
  CHECK(!reading()); /* at least that is seen */
}

/* As an interrupt that switches away and back. */
static void be_switched_away(void) {
  switch_to(2, true);
  run(500, 500);
  switch_to(1, true);
}

static void interrupt_a_reading(int counts) {
  begin();
  task_nvcsw = counts;
  switch_to(2, true);
  switch_to(1, true);
  run(10, 10);
  __u64 first[2];
  memcpy(first, reading(), sizeof(first));
  amid_reading = be_switched_away;
  __u64 *is = reading();
  CHECK(is);
  CHECK_EQUAL(cpu_ns(is), cpu_ns(first));
  CHECK_EQUAL(is[1], first[1]);
  CHECK_EQUAL(generation(is), generation(first));
}

static void a_reading_that_was_interrupted_is_made_again(void) {
  interrupt_a_reading(0);
  interrupt_a_reading(-1); /* on a kernel that does not count switches, too */
}

static void hardware_that_was_shared(void) {
  begin();
  switch_to(2, true);
  switch_to(1, true);
  run(100, 40);
  event.running -= 60; /* it counted for 40 of 100 ns */
  __u64 *is = reading();
  CHECK_EQUAL(is[1], 40);
  CHECK_EQUAL(is[2], 60);
  /* What the kernel itself counts never waits: then it was not counted at all. */
  never_waits = 1;
  CHECK_EQUAL(reading()[1], COUNTER_UNKNOWN);
}

static void who_has_ended_begins_anew(void) {
  begin();
  switch_to(2, true);
  switch_to(1, true);
  run(10, 10);
  CHECK(reading());
  handle_count_exit();
  CHECK(!is_made[1]);
  __u64 *is = reading(); /* its PID is another's */
  CHECK_EQUAL(generation(is), 0);
}

int main(void) {
  RUN(differences_are_the_threads_own);
  RUN(a_switch_that_was_left_out_begins_a_generation);
  RUN(of_whom_nobody_announced_nothing_is_said);
  RUN(a_kernel_that_does_not_count_switches);
  RUN(a_reading_that_was_interrupted_is_made_again);
  RUN(hardware_that_was_shared);
  RUN(who_has_ended_begins_anew);
}
