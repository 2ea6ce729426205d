/* SPDX-License-Identifier: Apache-2.0 */
#include "source.h"
#include "harness.h"

static void each_is_loaded_once(void) {
  struct source source = {.name = "profinfer"};
  source_program(&source, "graph_begin", AT_UPROBE);
  source_program(&source, "count_switch", AT_RAW_TRACEPOINT);
  source_program(&source, "graph_begin", AT_UPROBE);
  CHECK_EQUAL(source.program_count, 2);
  CHECK_TEXT(source.programs[1].name, "count_switch");
  CHECK_EQUAL(source.programs[1].value, AT_RAW_TRACEPOINT);
  source_map(&source, "chain");
  source_map(&source, "chain");
  CHECK_EQUAL(source.map_count, 1);
}

static void the_last_value_counts(void) {
  struct source source = {.name = "profinfer"};
  source_parameter(&source, "T_SIZE", 1);
  source_parameter(&source, "T_OP", -1);
  source_parameter(&source, "T_SIZE", 368);
  CHECK_EQUAL(source.parameter_count, 2);
  CHECK_EQUAL(source.parameters[0].value, 368);
  source_size(&source, "ring", 1 << 20);
  CHECK_EQUAL(source.sizes[0].value, 1 << 20);
}

static void there_is_room_for_so_many(void) {
  struct source source = {.name = "profinfer"};
  for (int i = 0; i < SOURCE_ITEMS; i++)
    source_parameter(&source, text("P%d", i), i);
  source_parameter(&source, "P7", 8);
  CHECK_EQUAL(source.parameter_count, SOURCE_ITEMS);
  CHECK_FAILS(EXIT_KERNEL, "no room for ONE_MORE", source_parameter(&source, "ONE_MORE", 0));
  CHECK_FAILS(EXIT_KERNEL, "map ring would have 2147483648 entries",
              source_size(&source, "ring", 1ull << 31));
}

int main(void) {
  RUN(each_is_loaded_once);
  RUN(the_last_value_counts);
  RUN(there_is_room_for_so_many);
}
