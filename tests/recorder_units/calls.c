/* SPDX-License-Identifier: Apache-2.0 */
/* Words of this process's own memory, by which calls would pass a stub. */
#include "calls.h"
#include "harness.h"

static uint64_t bound = 0x1000, not_bound_yet = 0x2000, elsewhere = 0x3000;

static struct plan_call call(const char *name, const uint64_t *word) {
  return (struct plan_call){.name = name,
                            .path = "libggml.so",
                            .address = (uintptr_t)word,
                            .values = {0x1000, 0x2000},
                            .value_count = 2};
}

static json_object *notes_of(struct plan_call one) {
  struct target target = target_open(getpid());
  struct plan plan = {.calls = &one, .call_count = 1};
  json_object *notes = json_object_new_array();
  calls_check(&plan, &target, notes);
  return notes;
}

static void calls_that_pass_the_stub(void) {
  CHECK_EQUAL(json_object_array_length(notes_of(call("a", &bound))), 0);
  CHECK_EQUAL(json_object_array_length(notes_of(call("a", &not_bound_yet))), 0);
}

static void calls_that_lead_elsewhere(void) {
  json_object *notes = notes_of(call("ggml_add", &elsewhere));
  CHECK_EQUAL(json_object_array_length(notes), 1);
  CHECK_TEXT(
      json_object_get_string(json_object_array_get_idx(notes, 0)),
      "calls may have been missed: ggml_add in libggml.so: its procedure linkage table leads "
      "to 0x3000, not to the stub");
}

static void what_cannot_be_read_is_not_known(void) {
  CHECK_EQUAL(json_object_array_length(notes_of(call("a", (uint64_t *)8))), 0);
}

int main(void) {
  RUN(calls_that_pass_the_stub);
  RUN(calls_that_lead_elsewhere);
  RUN(what_cannot_be_read_is_not_known);
}
