/* SPDX-License-Identifier: Apache-2.0 */
#include "strangers.h"
#include "harness.h"

static struct record made(enum scheduler_kind kind, uint32_t tid, uint64_t a) {
  return (struct record){.kind = kind, .tid = tid, .a = a};
}

/* The strangers among these records: how many; and the least and the most of their numbers. */
static size_t met(struct strangers *strangers, const struct record *records, size_t count,
                  uint32_t *least, uint32_t *most) {
  uint32_t *tids;
  strangers_meet(strangers, records, count);
  size_t found = strangers_take(strangers, &tids);
  *least = UINT32_MAX;
  *most = 0;
  for (size_t i = 0; i < found; i++) {
    *least = tids[i] < *least ? tids[i] : *least;
    *most = tids[i] > *most ? tids[i] : *most;
  }
  free(tids);
  return found;
}

static void both_threads_of_a_switch_are_met_once(void) {
  struct strangers strangers = strangers_begin();
  uint32_t least, most;
  /* The state and the priority stand above the thread that follows. */
  struct record records[] = {made(KIND_SWITCH, 70, 1ull << 32 | 120ull << 48 | 80),
                             made(KIND_SWITCH, 80, 120ull << 48 | 70)};
  CHECK_EQUAL(met(&strangers, records, 2, &least, &most), 2);
  CHECK_EQUAL(least, 70);
  CHECK_EQUAL(most, 80);
  CHECK_EQUAL(met(&strangers, records, 2, &least, &most), 0);
}

static void who_is_known_is_no_stranger(void) {
  struct strangers strangers = strangers_begin();
  uint32_t least, most;
  struct record records[] = {made(KIND_WAKING, 70, 90), made(KIND_SWITCH, 0, 70)};
  strangers_know(&strangers, 70);
  CHECK_EQUAL(met(&strangers, records, 2, &least, &most), 1); /* nor is who idles */
  CHECK_EQUAL(least, 90);
}

/* Rings are drained CPU by CPU: that a thread begins may come after that it runs. */
static void a_name_may_come_later(void) {
  struct strangers strangers = strangers_begin();
  uint32_t least, most;
  struct record records[] = {made(KIND_SWITCH, 50, 60), made(KIND_NEWNAME, 60, 0),
                             made(KIND_RENAME, 50, 0)};
  CHECK_EQUAL(met(&strangers, records, 3, &least, &most), 0);
  CHECK_EQUAL(met(&strangers, records, 1, &least, &most), 0);
}

static void other_records_tell_of_nobody(void) {
  struct strangers strangers = strangers_begin();
  uint32_t least, most;
  struct record records[] = {made(KIND_EXIT, 70, 0), made(KIND_FREE, 71, 0),
                             made(KIND_REASON, 72, 73), made(KIND_NEWTASK, 74, 75)};
  CHECK_EQUAL(met(&strangers, records, 4, &least, &most), 0);
}

static void numbers_that_no_thread_can_have(void) {
  struct strangers strangers = strangers_begin();
  uint32_t least, most;
  struct record records[] = {made(KIND_SWITCH, UINT32_MAX, (1u << 22) - 1),
                             made(KIND_NEWNAME, 1u << 22, 0)};
  CHECK_EQUAL(met(&strangers, records, 2, &least, &most), 1);
  CHECK_EQUAL(least, (1u << 22) - 1);
}

int main(void) {
  RUN(both_threads_of_a_switch_are_met_once);
  RUN(who_is_known_is_no_stranger);
  RUN(a_name_may_come_later);
  RUN(other_records_tell_of_nobody);
  RUN(numbers_that_no_thread_can_have);
}
