/* SPDX-License-Identifier: Apache-2.0 */
#include "run_delay.h"
#include "harness.h"

#include <pthread.h>
#include <sys/syscall.h>

static struct target target;

struct other {
  pthread_t thread;
  uint32_t tid;
  int gate[2], ready[2];
};

static void *wait_at_gate(void *data) {
  struct other *other = data;
  char byte;
  other->tid = syscall(SYS_gettid);
  CHECK(write(other->ready[1], "x", 1) == 1);
  CHECK(read(other->gate[0], &byte, 1) == 0);
  return 0;
}

/* A thread of this process that is there until it is to end. */
static void begin(struct other *other) {
  char byte;
  CHECK(!pipe(other->gate) && !pipe(other->ready));
  CHECK(!pthread_create(&other->thread, 0, wait_at_gate, other));
  CHECK(read(other->ready[0], &byte, 1) == 1);
}

static void end(struct other *other) {
  char path[64];
  close(other->gate[1]);
  pthread_join(other->thread, 0);
  snprintf(path, sizeof(path), "/proc/self/task/%u", other->tid);
  while (!access(path, F_OK)) /* the kernel takes a moment more */
    ;
}

static void of_nobody_nothing_is_known(void) {
  struct run_delay delay = {0};
  run_delay_look(&delay, &target);
  CHECK(run_delay_seconds(&delay) < 0);
  run_delay_add(&delay, 4194303); /* who has ended before the first look */
  run_delay_look(&delay, &target);
  CHECK(run_delay_seconds(&delay) < 0);
  CHECK_EQUAL(delay.count, 0);
}

static void who_has_ended_is_still_counted_and_not_looked_at_again(void) {
  struct run_delay delay = {0};
  if (access("/proc/self/schedstat", F_OK)) /* no CONFIG_SCHED_INFO */
    return;
  for (int i = 0; i < 40; i++) {
    struct other other;
    begin(&other);
    run_delay_add(&delay, other.tid);
    run_delay_look(&delay, &target);
    CHECK_EQUAL(delay.count, 1);
    CHECK_EQUAL(delay.threads[0].tid, other.tid);
    uint64_t before = delay.ended.ns;
    delay.threads[0].first = 1000;
    delay.threads[0].last = 1007; /* as of the last look at it */
    end(&other);
    run_delay_look(&delay, &target);
    CHECK_EQUAL(delay.count, 0);
    CHECK_EQUAL(delay.ended.ns - before, 7);
  }
  double seconds = run_delay_seconds(&delay);
  CHECK(seconds > 279e-9 && seconds < 281e-9);
  CHECK(delay.room < 40);
}

static void a_thread_counts_from_the_first_look_at_it(void) {
  struct run_delay delay = {0};
  if (access("/proc/self/schedstat", F_OK))
    return;
  run_delay_add(&delay, syscall(SYS_gettid));
  run_delay_look(&delay, &target);
  CHECK(run_delay_seconds(&delay) == 0);
  uint64_t first = delay.threads[0].first;
  run_delay_look(&delay, &target);
  CHECK_EQUAL(delay.threads[0].first, first);
  CHECK(run_delay_seconds(&delay) >= 0);
}

int main(void) {
  target = target_open(getpid());
  RUN(of_nobody_nothing_is_known);
  RUN(who_has_ended_is_still_counted_and_not_looked_at_again);
  RUN(a_thread_counts_from_the_first_look_at_it);
}
