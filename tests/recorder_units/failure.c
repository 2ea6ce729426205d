/* SPDX-License-Identifier: Apache-2.0 */
#include "failure.h"
#include "harness.h"

static void message_hint_and_exit_code(void) {
  CHECK_FAILS(EXIT_PLAN, "profinfer-recorder: 7 of 9\nhint: try again\n",
              fail(EXIT_PLAN, "try again", "%d of %d", 7, 9));
  CHECK_FAILS(EXIT_KERNEL, "profinfer-recorder: no hint\n", fail(EXIT_KERNEL, "", "no hint"));
}

static void names_do_not_steer_the_terminal(void) {
  CHECK_FAILS(EXIT_TARGET, "profinfer-recorder: a?[2Jb?c?",
              fail(EXIT_TARGET, "", "%s", "a\033[2Jb\rc\x7f"));
  CHECK_FAILS(0, "profinfer-recorder: warning: ?]0;title?", warn("\033]0;title\a"));
}

static void long_names_are_cut(void) {
  char name[5000];
  memset(name, 'n', sizeof(name));
  name[sizeof(name) - 1] = 0;
  CHECK_FAILS(EXIT_TARGET, "nnnn\nhint: it", fail(EXIT_TARGET, "it is long", "%s", name));
}

static void memory_is_zeroed(void) {
  unsigned char *memory = allocate(1000, 8);
  for (size_t i = 0; i < 8000; i++)
    CHECK_EQUAL(memory[i], 0);
  free(memory);
  CHECK(allocate(0, 8));
}

int main(void) {
  RUN(message_hint_and_exit_code);
  RUN(names_do_not_steer_the_terminal);
  RUN(long_names_are_cut);
  RUN(memory_is_zeroed);
}
