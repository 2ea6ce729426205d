/* SPDX-License-Identifier: Apache-2.0 */
#include "set.h"
#include "harness.h"

static void each_number_is_new_once(void) {
  struct set set = {0};
  CHECK(set_add(&set, 7));
  CHECK(!set_add(&set, 7));
  CHECK(set_add(&set, UINT64_MAX));
  CHECK(!set_add(&set, UINT64_MAX));
  CHECK_EQUAL(set.count, 2);
  free(set.slots);
}

static void it_grows_and_keeps_all(void) {
  struct set set = {0};
  for (uint64_t i = 1; i <= 10000; i++)
    CHECK(set_add(&set, i * 0x100000001));
  for (uint64_t i = 1; i <= 10000; i++)
    CHECK(!set_add(&set, i * 0x100000001));
  CHECK_EQUAL(set.count, 10000);
  CHECK(set.size >= 2 * set.count);
  free(set.slots);
}

/* Numbers of one slot: whoever comes later goes on to the next free one, and around the end. */
static void numbers_of_one_slot_stand_side_by_side(void) {
  struct set set = {0};
  uint64_t same[8];
  size_t found = 0;
  for (uint64_t i = 1; found < 8; i++)
    if ((i * 0x9E3779B97F4A7C15ull >> 32 & 63) == 63)
      same[found++] = i;
  for (size_t i = 0; i < found; i++)
    CHECK(set_add(&set, same[i]));
  for (size_t i = 0; i < found; i++)
    CHECK(!set_add(&set, same[i]));
  CHECK_EQUAL(set.size, 64);
  free(set.slots);
}

int main(void) {
  RUN(each_number_is_new_once);
  RUN(it_grows_and_keeps_all);
  RUN(numbers_of_one_slot_stand_side_by_side);
}
