/* SPDX-License-Identifier: Apache-2.0 */
#include "foreign_root.h"
#include "harness.h"

#define OURS "/ours.so"

/* An environment, in which our library is looked for, and what it is to become. */
struct example {
  const char *before, *after;
  size_t length;
};
#define EXAMPLE(before, after)                                                                     \
  { before, after, sizeof(before) }

static void check_example(const struct example *example, bool is_taken) {
  char strings[128];
  size_t begin = 0, changed = 0;
  memcpy(strings, example->before, example->length);
  CHECK_EQUAL(foreign_root_take_out(strings, example->length, OURS, &begin, &changed), is_taken);
  CHECK(!memcmp(strings, example->after, example->length));
  if (!is_taken)
    return;
  char rest[128];
  memcpy(rest, example->before, example->length);
  memcpy(rest + begin, strings + begin, changed);
  CHECK(!memcmp(rest, example->after, example->length));
}

static void our_library_is_taken_out_and_others_stay(void) {
  static const struct example examples[] = {
      EXAMPLE("A=1\0LD_AUDIT=/ours.so\0B=2", "A=1\0LD_AUDIT=\0\0\0\0\0\0\0\0\0B=2"),
      EXAMPLE("LD_AUDIT=/a.so:/ours.so", "LD_AUDIT=/a.so\0\0\0\0\0\0\0\0\0"),
      EXAMPLE("LD_AUDIT=/ours.so:/b.so\0B=2", "LD_AUDIT=/b.so\0\0\0\0\0\0\0\0\0\0B=2"),
      EXAMPLE("LD_AUDIT=/a:/ours.so:/b", "LD_AUDIT=/a:/b\0\0\0\0\0\0\0\0\0"),
  };
  for (size_t i = 0; i < sizeof(examples) / sizeof(*examples); i++)
    check_example(&examples[i], true);
}

static void what_is_not_ours_stays(void) {
  static const struct example examples[] = {
      EXAMPLE("LD_AUDIT=/ours.so.1:/a/ours.so", "LD_AUDIT=/ours.so.1:/a/ours.so"),
      EXAMPLE("XLD_AUDIT=/ours.so", "XLD_AUDIT=/ours.so"),
      EXAMPLE("LD_AUDIT=", "LD_AUDIT="),
      EXAMPLE("", ""),
  };
  for (size_t i = 0; i < sizeof(examples) / sizeof(*examples); i++)
    check_example(&examples[i], false);
}

/* A process may have written there whatever it liked. */
static void an_end_in_the_middle_is_no_string(void) {
  static const char cut[] = "LD_AUDIT=/ours.so";
  for (size_t length = 0; length < sizeof(cut); length++) { /* without the last byte, 0 */
    char *strings = malloc(length + 1);
    size_t begin, changed;
    memcpy(strings, cut, length);
    CHECK(!foreign_root_take_out(strings, length, OURS, &begin, &changed));
    free(strings);
  }
}

int main(void) {
  RUN(our_library_is_taken_out_and_others_stay);
  RUN(what_is_not_ours_stays);
  RUN(an_end_in_the_middle_is_no_string);
}
