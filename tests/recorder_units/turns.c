/* SPDX-License-Identifier: Apache-2.0 */
#include "turns.h"
#include "harness.h"

static void without_being_asked_it_is_on_all_the_time(void) {
  struct turns turns = turns_begin(0, 100);
  CHECK(!turns_is_due(&turns, 1e6));
  CHECK(turns_nap(&turns, 100, 0.5) == 0.5);
  CHECK(!turns.times);
}

static void each_turn_is_as_long_however_long_it_took_to_switch(void) {
  struct turns turns = turns_begin(0.5, 100);
  CHECK(!turns_is_due(&turns, 100.4));
  CHECK(turns_nap(&turns, 100.4, 0.05) == 0.05);
  CHECK(turns_nap(&turns, 100.4, 0.5) < 0.11);
  CHECK(turns_is_due(&turns, 100.5));
  turns_took(&turns, 100500, 100700, 100.7);
  CHECK(turns.is_off);
  CHECK(!turns_is_due(&turns, 101.1));
  CHECK(turns_is_due(&turns, 101.2));
  turns_took(&turns, 101200, 101300, 101.3);
  CHECK(!turns.is_off);
  CHECK_TEXT(json_object_to_json_string_ext(turns.times, JSON_C_TO_STRING_PLAIN),
             "[100500,100700,101200,101300]");
  json_object_put(turns.times);
}

int main(void) {
  RUN(without_being_asked_it_is_on_all_the_time);
  RUN(each_turn_is_as_long_however_long_it_took_to_switch);
  return 0;
}
