/* SPDX-License-Identifier: Apache-2.0 */
#include "pace.h"

#define CLOCK_EVERY_NS 10000000000ull
/* A ring is looked at so many times between drains, and drained early when as full as this. When
 * one was half full it is looked at more often, until it fills so slowly that it would not be. */
#define LOOKS 16
#define HURRIED_LOOKS 64
#define FULL 0.2
#define HURRY 0.5
#define HURRY_NO_MORE (HURRY * LOOKS / HURRIED_LOOKS)
/* Rings of threads are smaller than those of CPUs by so much: so much more often, too. */
#define SMALL 4
/* Runs are counted until there are so many records, then in one interval of so many. */
#define ENOUGH_RECORDS 20000
#define COUNT_EVERY 8

struct pace pace_begin(double interval, double now, uint64_t now_ns) {
  return (struct pace){
      .interval = interval, .next_drain = now + interval, .next_clock = now_ns + CLOCK_EVERY_NS};
}

double pace_nap(const struct pace *pace, bool has_small_rings) {
  /* How fast these fill is not known before the first drain. */
  bool is_hurried = pace->is_hurried || (has_small_rings && !pace->drains);
  double looks = is_hurried ? HURRIED_LOOKS : LOOKS;
  return pace->interval / (has_small_rings ? SMALL * looks : looks);
}

bool pace_is_due(struct pace *pace, double now, double fill, bool at_once) {
  bool is_filling = fill >= FULL;
  if (!at_once && !is_filling && now < pace->next_drain)
    return false;
  pace->is_hurried = fill >= (pace->is_hurried ? HURRY_NO_MORE : HURRY);
  pace->next_drain = now + pace->interval;
  pace->drains++;
  return true;
}

bool pace_is_clock_due(struct pace *pace, uint64_t now_ns) {
  if (now_ns < pace->next_clock)
    return false;
  /* One that was missed, the machine asleep, is not made up for. */
  pace->next_clock += (1 + (now_ns - pace->next_clock) / CLOCK_EVERY_NS) * CLOCK_EVERY_NS;
  return true;
}

bool pace_counts_runs(const struct pace *pace, uint64_t records) {
  return records < ENOUGH_RECORDS || pace->drains % COUNT_EVERY == 0;
}
