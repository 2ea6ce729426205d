/* SPDX-License-Identifier: Apache-2.0 */
#include "horizon.h"
#include "harness.h"

/* Where a drain with this limit brings it. */
static uint64_t moved(struct horizon horizon, uint64_t limit, const struct look *looks,
                      unsigned cpus) {
  horizon_move(&horizon, limit, looks, cpus);
  CHECK_EQUAL(horizon.limit, limit);
  return horizon.at;
}

static void it_goes_on_to_the_limit(void) {
  struct look looks[2] = {{.newest = 90}, {0}};
  CHECK_EQUAL(moved((struct horizon){50, 60}, 100, looks, 2), 100);
}

/* What came out before it may be younger: whoever was to fill that slot was interrupted, too. */
static void before_what_was_begun_since_nothing_is_left(void) {
  struct look looks[2] = {{.newest = 90, .seen = SEEN_UNTIL_NEW}, {.newest = 95}};
  CHECK_EQUAL(moved((struct horizon){50, 60}, 100, looks, 2), 60);
  CHECK_EQUAL(moved((struct horizon){50, 60}, 55, looks, 2), 55);
}

static void of_what_was_begun_earlier_nothing_is_known(void) {
  struct look looks[3] = {{.seen = SEEN_UNTIL_OLD}, {.newest = 95}, {.seen = SEEN_UNTIL_NEW}};
  CHECK_EQUAL(moved((struct horizon){50, 60}, 100, looks, 3), 50);
}

static void it_never_goes_back(void) {
  struct look looks[1] = {{.seen = SEEN_UNTIL_NEW}};
  CHECK_EQUAL(moved((struct horizon){50, 40}, 100, looks, 1), 50);
  CHECK_EQUAL(moved((struct horizon){50, 60}, 30, (struct look[1]){{0}}, 1), 50);
}

static void drain_after_drain(void) {
  struct horizon horizon = {0};
  struct look all[1] = {{0}}, new[1] = {{.seen = SEEN_UNTIL_NEW}},
              old[1] = {{.seen = SEEN_UNTIL_OLD}};
  horizon_move(&horizon, 100, new, 1);
  CHECK_EQUAL(horizon.at, 0);
  horizon_move(&horizon, 200, new, 1); /* another one: the first is done */
  CHECK_EQUAL(horizon.at, 100);
  horizon_move(&horizon, 300, old, 1);
  CHECK_EQUAL(horizon.at, 100);
  horizon_move(&horizon, 400, all, 1);
  CHECK_EQUAL(horizon.at, 400);
}

int main(void) {
  RUN(it_goes_on_to_the_limit);
  RUN(before_what_was_begun_since_nothing_is_left);
  RUN(of_what_was_begun_earlier_nothing_is_known);
  RUN(it_never_goes_back);
  RUN(drain_after_drain);
}
