/* SPDX-License-Identifier: Apache-2.0 */
#include "../../bpf/recorder/tracepoints.c"
#include "harness.h"

#define FORK "sched/sched_process_fork"

static struct field parsed(const char *line) {
  struct field found;
  CHECK(parse_field(line, &found));
  return found;
}

static void a_field_is_named_by_its_last_word(void) {
  struct field found = parsed("\tfield:unsigned long i_ino;\toffset:16;\tsize:8;\tsigned:0;\n");
  CHECK_TEXT(found.name, "i_ino");
  CHECK_EQUAL(found.offset, 16);
  CHECK_EQUAL(found.size, 8);
  CHECK_TEXT(parsed("\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n").name, "comm");
  CHECK_TEXT(parsed("\tfield:const char *name;\toffset:8;\tsize:8;\tsigned:0;\n").name, "name");
  CHECK_TEXT(parsed("\tfield:__data_loc char[] child_comm;\toffset:8;\tsize:4;\n").name,
             "child_comm");
}

static void other_lines_are_none(void) {
  static const char *const lines[] = {
      "",
      "name: sched_process_fork\n",
      "format:\n",
      "\tfield:int x\n",
      "\tfield:int x;\n",
      "\tfield:int x;\toffset:8;\n",
      "\toffset:8;\tsize:4;\n",
      "print fmt: \"x=%d\", REC->x\n",
  };
  struct field found;
  for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
    CHECK(!parse_field(lines[i], &found));
  CHECK_TEXT(parsed("field:];\toffset:0;\tsize:1;").name, "");
}

static void fields_of_this_kernel(void) {
  int pid = tracepoint_field(FORK, "child_pid", 4);
  CHECK(pid > 0);
  CHECK(tracepoint_field(FORK, "common_pid", 4) == 4);
  CHECK(tracepoint_size(FORK) >= pid + 4u);
  CHECK(tracepoint_id(FORK) > 0);
  CHECK(tracepoint_field(FORK, "child", 4) < 0);
  CHECK(tracepoint_field(FORK, "child_pid", 8) < 0);
  CHECK(tracepoint_id("sched/no_such_event") < 0);
  CHECK_EQUAL(tracepoint_size("sched/no_such_event"), 0);
}

static void what_is_missing_is_named(void) {
  struct problem why;
  CHECK(tracepoint_need_field(FORK, "child_pid", 8, &why) < 0);
  CHECK_TEXT(why.message, "tracepoint " FORK " has no field child_pid of 8 bytes on this kernel");
  CHECK_EQUAL(why.code, EXIT_KERNEL);
  CHECK_FAILS(EXIT_KERNEL, "this kernel has no tracepoint sched/no_such_event",
              tracepoint_attach(0, "sched/no_such_event"));
  CHECK_FAILS(EXIT_KERNEL, "cannot attach to tracepoint no_such_event: ",
              raw_tracepoint_attach(0, "no_such_event"));
}

static void an_event_that_is_none(void) {
  struct problem why;
  CHECK(perf_event_open(PERF_TYPE_SOFTWARE, 4711, 0, "a thing", &why) < 0);
  CHECK(strstr(why.message, "cannot attach a thing: ") == why.message);
  CHECK_EQUAL(why.code, EXIT_PROBES);
  CHECK_FAILS(EXIT_PROBES, "cannot attach a thing: ", perf_event_run(0, 0, "a thing"));
}

int main(void) {
  RUN(a_field_is_named_by_its_last_word);
  RUN(other_lines_are_none);
  RUN(fields_of_this_kernel);
  RUN(what_is_missing_is_named);
  RUN(an_event_that_is_none);
}
