/* SPDX-License-Identifier: Apache-2.0 */
#include "ticks.h"
#include "capture.h"
#include "harness.h"

/* One tick is half a ns, but for what a test says. */
static void add(struct ticks *ticks, uint64_t counter, uint64_t boot) {
  ticks_add(ticks, (struct tick_pair){counter, boot, 40});
}

static uint64_t at(const struct ticks *ticks, uint64_t counter) {
  uint64_t boot;
  CHECK(ticks_boot(ticks, counter, &boot));
  return boot;
}

static bool is_known(const struct ticks *ticks, uint64_t counter) {
  uint64_t boot;
  return ticks_boot(ticks, counter, &boot);
}

static void between_two_looks_it_goes_evenly(void) {
  struct ticks ticks = {0};
  CHECK(!is_known(&ticks, 0));
  add(&ticks, 2000, 5000);
  CHECK_EQUAL(at(&ticks, 2000), 5000);
  CHECK(!is_known(&ticks, 1999) && !is_known(&ticks, 2001));
  add(&ticks, 4000, 6000);
  add(&ticks, 6000, 8000);
  CHECK_EQUAL(at(&ticks, 3000), 5500);
  CHECK_EQUAL(at(&ticks, 4000), 6000);
  CHECK_EQUAL(at(&ticks, 5000), 7000);
  CHECK_EQUAL(at(&ticks, 6000), 8000);
  CHECK(!is_known(&ticks, 6001));
}

static void large_numbers(void) {
  struct ticks ticks = {0};
  add(&ticks, 1ull << 63, 1ull << 62);
  add(&ticks, (1ull << 63) + (1ull << 45), (1ull << 62) + (1ull << 44));
  CHECK_EQUAL(at(&ticks, (1ull << 63) + (1ull << 44)), (1ull << 62) + (1ull << 43));
}

static void the_bound_is_that_of_the_looks_and_of_the_bend(void) {
  struct ticks ticks = {0};
  add(&ticks, 0, 0);
  CHECK(ticks.worst == 0);
  add(&ticks, 2000, 1000);
  CHECK(ticks.worst == 40 / 2 * 0.5 + 0.5);
  add(&ticks, 4000, 2000);
  CHECK(ticks.worst == 40 / 2 * 0.5 + 0.5);
  add(&ticks, 6000, 4000); /* twice as fast: it may have been for a part of that time only */
  CHECK((uint64_t)(ticks.worst + 0.5) == 20 + 1 + 1000 - 2 * 20);
  add(&ticks, 8000, 5000); /* and half as fast */
  CHECK((uint64_t)(2 * ticks.worst + 0.5) == 2 * 10 + 1 + 2 * (1000 - 2 * 10));
}

static void looks_that_do_not_go_on_are_passed_over(void) {
  struct ticks ticks = {0};
  add(&ticks, 1000, 1000);
  add(&ticks, 1000, 2000);
  add(&ticks, 2000, 1000);
  add(&ticks, 500, 3000);
  CHECK_EQUAL(ticks.count, 1);
}

static void old_ones_are_forgotten(void) {
  struct ticks ticks = {0};
  for (uint64_t i = 1; i <= TICK_PAIRS + 10; i++)
    add(&ticks, 2000 * i, 1000 * i);
  CHECK_EQUAL(ticks.count, TICK_PAIRS);
  CHECK(!is_known(&ticks, 2000 * 11 - 1));
  CHECK_EQUAL(at(&ticks, 2000 * 11), 11000);
}

/* Looks are uncertain: two rates of short times differ without any bend. */
static void what_looks_cannot_tell_is_no_bend(void) {
  struct ticks ticks = {0};
  add(&ticks, 0, 0);
  add(&ticks, 2000, 1010);
  add(&ticks, 2000000, 1000000);
  CHECK(ticks.worst < 22);
}

/* Where it cannot serve, it says so. */
static void of_this_machine(void) {
  if (ticks_problem())
    return;
  struct ticks ticks = {0};
  uint64_t before = boot_ns();
  ticks_add(&ticks, ticks_look());
  usleep(20000);
  struct tick_pair between = ticks_look();
  usleep(20000);
  ticks_add(&ticks, ticks_look());
  int64_t off = at(&ticks, between.ticks) - between.boot;
  CHECK(between.boot > before && off > -20000 && off < 20000);
}

int main(void) {
  RUN(between_two_looks_it_goes_evenly);
  RUN(large_numbers);
  RUN(the_bound_is_that_of_the_looks_and_of_the_bend);
  RUN(what_looks_cannot_tell_is_no_bend);
  RUN(looks_that_do_not_go_on_are_passed_over);
  RUN(old_ones_are_forgotten);
  RUN(of_this_machine);
}
