/* SPDX-License-Identifier: Apache-2.0 */
#include "pace.h"
#include "harness.h"

#define SECOND 1000000000ull

static void it_drains_at_its_interval(void) {
  struct pace pace = pace_begin(0.5, 100, 0);
  CHECK(!pace_is_due(&pace, 100.1, 0, false));
  CHECK(!pace_is_due(&pace, 100.499, 0.19, false));
  CHECK(pace_is_due(&pace, 100.5, 0, false));
  CHECK(!pace_is_due(&pace, 100.6, 0, false));
  /* The interval begins with the drain, however late that was. */
  CHECK(pace_is_due(&pace, 101.3, 0, false));
  CHECK(!pace_is_due(&pace, 101.7, 0, false));
  CHECK(pace_is_due(&pace, 101.8, 0, false));
  CHECK_EQUAL(pace.drains, 3);
}

static void it_hurries_while_a_ring_fills_up(void) {
  struct pace pace = pace_begin(0.64, 0, 0);
  double at_leisure = pace_nap(&pace, false);
  CHECK(at_leisure == 0.64 / 16);
  CHECK(pace_is_due(&pace, 0.01, 0.2, false));
  CHECK(!pace.is_hurried); /* as much again, and more, has room until the next look */
  CHECK(pace_is_due(&pace, 0.01, 0.5, false));
  CHECK(pace.is_hurried);
  CHECK(pace_is_due(&pace, 0.01, 0.2, false));
  CHECK(pace.is_hurried); /* four times that would be more than half */
  CHECK(pace_nap(&pace, false) == 0.64 / 64);
  CHECK(pace_nap(&pace, true) == 0.64 / 256);
  /* It stays so until a drain finds little. */
  CHECK(!pace_is_due(&pace, 0.02, 0.1, false));
  CHECK(pace.is_hurried);
  CHECK(pace_is_due(&pace, 0.65, 0.1, false));
  CHECK(!pace.is_hurried);
  CHECK(pace_nap(&pace, false) == at_leisure);
}

static void the_end_is_always_due(void) {
  struct pace pace = pace_begin(0.5, 0, 0);
  CHECK(pace_is_due(&pace, 0.001, 0, true));
}

static void clocks_are_read_every_ten_seconds(void) {
  struct pace pace = pace_begin(0.5, 0, 7 * SECOND);
  CHECK(!pace_is_clock_due(&pace, 17 * SECOND - 1));
  CHECK(pace_is_clock_due(&pace, 17 * SECOND + 300));
  CHECK(!pace_is_clock_due(&pace, 27 * SECOND - 1)); /* being late does not add up */
  CHECK(pace_is_clock_due(&pace, 27 * SECOND));
}

static void clocks_are_read_once_after_a_sleep(void) {
  struct pace pace = pace_begin(0.5, 0, 0);
  CHECK(pace_is_clock_due(&pace, 3605 * SECOND));
  CHECK(!pace_is_clock_due(&pace, 3605 * SECOND + 1));
  CHECK(pace_is_clock_due(&pace, 3610 * SECOND));
}

static void runs_are_counted_at_first_and_then_seldom(void) {
  struct pace pace = pace_begin(1, 0, 0);
  unsigned counted = 0;
  for (double now = 1; now < 80; now++) {
    CHECK(pace_is_due(&pace, now, 0, false));
    CHECK(pace_counts_runs(&pace, 19999));
    counted += pace_counts_runs(&pace, 20000);
  }
  CHECK_EQUAL(counted, 79 / 8);
}

int main(void) {
  RUN(it_drains_at_its_interval);
  RUN(it_hurries_while_a_ring_fills_up);
  RUN(the_end_is_always_due);
  RUN(clocks_are_read_every_ten_seconds);
  RUN(clocks_are_read_once_after_a_sleep);
  RUN(runs_are_counted_at_first_and_then_seldom);
}
