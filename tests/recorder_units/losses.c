/* SPDX-License-Identifier: Apache-2.0 */
#include "losses.h"
#include "harness.h"

#define CPUS 2

/* Of the scheduler: what is counted on CPU 1 of switches, and of wake-ups. */
static struct loss counts[CPUS * SCHEDULER_KINDS];
#define SWITCHES counts[SCHEDULER_KINDS]
#define WAKINGS counts[SCHEDULER_KINDS + 1]

static struct losses begin(uint64_t lost_before) {
  memset(counts, 0, sizeof(counts));
  SWITCHES.lost = lost_before;
  return losses_begin(CPUS, FIRST_SCHEDULER_KIND, SCHEDULER_KINDS, counts, 100);
}

static void what_has_not_grown_is_not_told(void) {
  struct loss_entry entries[CPUS * SCHEDULER_KINDS];
  struct look looks[CPUS] = {{0}};
  struct losses losses = begin(7);
  CHECK_EQUAL(losses_room(&losses), CPUS * SCHEDULER_KINDS);
  CHECK_EQUAL(losses_take(&losses, counts, 200, looks, entries), 0);
  CHECK_EQUAL(losses_total(&losses), 0);
}

static void each_is_told_when_it_grows(void) {
  struct loss_entry entries[CPUS * SCHEDULER_KINDS];
  struct look looks[CPUS] = {{0}};
  struct losses losses = begin(7);
  SWITCHES = (struct loss){10, 150};
  WAKINGS = (struct loss){1, 160};
  CHECK_EQUAL(losses_take(&losses, counts, 200, looks, entries), 2);
  CHECK_EQUAL(entries[0].cpu, 1);
  CHECK_EQUAL(entries[0].kind, KIND_SWITCH);
  CHECK_EQUAL(entries[0].lost, 3); /* since the beginning */
  CHECK_EQUAL(entries[0].first_ts, 100);
  CHECK_EQUAL(entries[0].last_ts, 150);
  CHECK_EQUAL(entries[1].kind, KIND_WAKING);
  SWITCHES = (struct loss){12, 260};
  CHECK_EQUAL(losses_take(&losses, counts, 300, looks, entries), 1);
  CHECK_EQUAL(entries[0].lost, 5);
  CHECK_EQUAL(entries[0].first_ts, 200); /* the last look */
  CHECK_EQUAL(losses_of(&losses, KIND_SWITCH), 5);
  CHECK_EQUAL(losses_of(&losses, KIND_WAKING), 1);
  CHECK_EQUAL(losses_total(&losses), 6);
}

static void losses_are_younger_than_what_was_drained(void) {
  struct loss_entry entries[CPUS * SCHEDULER_KINDS];
  struct look looks[CPUS] = {{.newest = 190}, {.newest = 140}};
  struct losses losses = begin(0);
  SWITCHES = (struct loss){1, 150};
  WAKINGS = (struct loss){1, 130}; /* never from after its end */
  CHECK_EQUAL(losses_take(&losses, counts, 200, looks, entries), 2);
  CHECK_EQUAL(entries[0].first_ts, 140);
  CHECK_EQUAL(entries[1].first_ts, 130);
}

static void wide_records_have_another_ring(void) {
  struct loss counts_of[KIND_COUNT] = {{0}};
  struct loss_entry entries[KIND_COUNT];
  struct look looks[1] = {{.newest = 140}};
  struct losses losses = losses_begin(1, 0, KIND_COUNT, counts_of, 100);
  counts_of[KIND_TENSOR] = (struct loss){4, 150};
  counts_of[KIND_OPERATOR] = (struct loss){2, 150};
  CHECK_EQUAL(losses_take(&losses, counts_of, 200, looks, entries), 2);
  CHECK_EQUAL(entries[0].kind, KIND_OPERATOR);
  CHECK_EQUAL(entries[0].first_ts, 140);
  CHECK_EQUAL(entries[1].kind, KIND_TENSOR);
  CHECK_EQUAL(entries[1].first_ts, 100);
}

int main(void) {
  RUN(what_has_not_grown_is_not_told);
  RUN(each_is_told_when_it_grows);
  RUN(losses_are_younger_than_what_was_drained);
  RUN(wide_records_have_another_ring);
}
