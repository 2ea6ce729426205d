/* SPDX-License-Identifier: Apache-2.0 */
/* Which counters a machine has, and in which groups: a machine of little and big cores. */
#include "events.h"

#include <json-c/json.h>

static int fake_event_open(json_object *event, unsigned cpu, int leader);
#define event_open fake_event_open
#include "../../bpf/recorder/counters.c"
#include "harness.h"

#include <fcntl.h>

#define CPUS 8
#define FIRST_BIG 4

static unsigned most_in_group; /* as the hardware has counters */
static unsigned in_group[1024];
static unsigned room = 1024; /* descriptors that there may be */

/* Only the big cores have some events. */
static int fake_event_open(json_object *event, unsigned cpu, int leader) {
  const char *name = event_text(event, "name");
  bool is_of_big = !strcmp(name, "l3d_cache_refill:u") || !strcmp(name, "mem_access_wr:u");
  errno = ENOENT;
  if (!strcmp(name, "nowhere") || (is_of_big && cpu < FIRST_BIG))
    return -1;
  errno = EMFILE;
  if (!room || (leader >= 0 && !--room))
    return -1;
  errno = EINVAL;
  if (leader >= 0 && in_group[leader] == most_in_group)
    return -1;
  int fd = open("/dev/null", O_RDONLY);
  CHECK(fd >= 0 && fd < 1024);
  in_group[fd] = 1;
  if (leader >= 0)
    in_group[leader]++;
  return fd;
}

static json_object *events(const char *text) {
  json_object *found = json_tokener_parse(text);
  CHECK(found);
  return found;
}

static void check_note(const struct counters *counters, size_t number, const char *said) {
  json_object *note = json_object_array_get_idx(counters->notes, number);
  CHECK(note && strstr(json_object_get_string(note), said));
}

/* On the others its first one would say for how long those were counted that are not there. */
static void a_group_is_only_what_counts_on_the_same_cpus(void) {
  static const int groups[] = {0, 2, 0, 1, 3};
  most_in_group = 8;
  struct counters counters = counters_open(
      events("[{\"name\": \"cpu_cycles:u\", \"group\": 0}, {\"name\": \"l3d_cache_refill:u\","
             "\"group\": 0}, {\"name\": \"inst_retired:u\", \"group\": 0}, {\"name\":"
             "\"mem_access_wr:u\", \"group\": 1}, {\"name\": \"cycles:u\", \"group\": 1}]"),
      json_object_new_array(), CPUS);
  CHECK_EQUAL(counters.count, 5);
  for (size_t i = 0; i < 5; i++)
    CHECK_EQUAL(counters.groups[i], groups[i]);
  size_t last = json_object_array_length(counters.notes);
  check_note(&counters, last - 2,
             "l3d_cache_refill:u is counted by itself: not on the same CPUs as cpu_cycles:u");
  check_note(&counters, last - 1,
             "cycles:u is counted by itself: not on the same CPUs as mem_access_wr:u");
  /* Where an event is not counted, nothing is open. */
  for (unsigned cpu = 0; cpu < CPUS; cpu++) {
    CHECK_EQUAL(counters.fds[1 * CPUS + cpu] >= 0, cpu >= FIRST_BIG);
    CHECK(counters.fds[0 * CPUS + cpu] >= 0);
  }
}

static void a_group_is_no_larger_than_the_hardware(void) {
  most_in_group = 2;
  json_object *wanted = json_object_new_array();
  for (const char *name = "abc"; *name; name++)
    json_object_array_add(
        wanted, events(text("{\"name\": \"%c\", \"sources\": [{\"pmu\": \"core\"}]}", *name)));
  struct counters counters = counters_open(wanted, json_object_new_array(), CPUS);
  CHECK_EQUAL(counters.groups[0], 0);
  CHECK_EQUAL(counters.groups[1], 0);
  CHECK_EQUAL(counters.groups[2], 1);
  CHECK_EQUAL(counters.leaders, 1 | 1 << 2);
  check_note(&counters, json_object_array_length(counters.notes) - 1,
             "c is counted by itself: not in one group with those before it (Invalid argument)");
}

static void what_no_cpu_counts_is_said_and_left_out(void) {
  most_in_group = 8;
  json_object *wanted = events("[{\"name\": \"nowhere\", \"group\": 0}]"),
              *both = events("[{\"name\": \"nowhere\", \"group\": 0}, {\"name\": \"a\","
                             "\"group\": 0}]");
  struct counters counters = counters_open(both, json_object_new_array(), CPUS);
  CHECK_EQUAL(counters.count, 1);
  check_note(&counters, 0, "not counted: nowhere: no PMU here counts it; here are: ");
  counters_check(&counters, both);
  CHECK_FAILS(EXIT_KERNEL, "none of the counters can be had: not counted: nowhere", {
    struct counters none = counters_open(wanted, json_object_new_array(), CPUS);
    counters_check(&none, wanted);
  });
}

/* Which is not that it cannot be counted. */
static void too_few_descriptors_are_said(void) {
  most_in_group = 8;
  room = 3;
  CHECK_FAILS(EXIT_KERNEL, "cannot count instructions:u on CPU 2: Too many open files",
              counters_open(events("[{\"name\": \"cycles:u\", \"group\": 0},"
                                   "{\"name\": \"instructions:u\", \"group\": 0}]"),
                            json_object_new_array(), CPUS));
  room = 1024;
}

int main(void) {
  RUN(too_few_descriptors_are_said);
  RUN(a_group_is_only_what_counts_on_the_same_cpus);
  RUN(a_group_is_no_larger_than_the_hardware);
  RUN(what_no_cpu_counts_is_said_and_left_out);
}
