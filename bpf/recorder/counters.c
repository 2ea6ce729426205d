/* SPDX-License-Identifier: Apache-2.0 */
#include "counters.h"
#include "descriptors.h"
#include "events.h"
#include "failure.h"
#include "programs.h"
#include "rings.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_object *event_of(const struct counters *counters, size_t number) {
  return json_object_array_get_idx(counters->events, number);
}

static const char *name_of(const struct counters *counters, size_t number) {
  return event_text(event_of(counters, number), "name");
}

static void note(struct counters *counters, char *said) {
  json_object_array_add(counters->notes, json_object_new_string(said));
  free(said);
}

static void close_events(struct counters *counters) {
  for (size_t i = 0; i < counters->count * counters->cpus; i++) {
    if (counters->fds[i] >= 0)
      close(counters->fds[i]);
    counters->fds[i] = -1;
  }
}

/* ---- Which of them exist */

/* The number of CPUs on which it counts by itself; the error of the last one on which it does not
 * is in `error`. */
static unsigned try_event(json_object *event, unsigned cpus, int *error) {
  unsigned found = 0;
  for (unsigned cpu = 0; cpu < cpus; cpu++) {
    int fd = event_open(event, cpu, -1);
    if (fd >= 0) {
      close(fd);
      found++;
    } else if (errno == EINVAL || errno == EOPNOTSUPP) {
      if (event_unfilter(event))
        return try_event(event, cpus, error);
      *error = errno;
    } else {
      *error = errno;
    }
  }
  return found;
}

static void choose(struct counters *counters, json_object *wanted) {
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  for (size_t i = 0; i < json_object_array_length(wanted); i++) {
    json_object *event = json_object_array_get_idx(wanted, i);
    int error = ENOENT;
    unsigned found = try_event(event, counters->cpus, &error);
    if (found)
      json_object_array_add(counters->events, json_object_get(event));
    if (!found)
      note(counters,
           text("not counted: %s: %s; here are: %s", event_text(event, "name"),
                error == ENOENT || error == EOPNOTSUPP || error == ENODEV ? "no PMU here counts it"
                                                                          : strerror(error),
                event_pmus()));
    else if (found < online)
      note(counters, text("%s is counted on %u of %ld CPUs: %s", event_text(event, "name"), found,
                          online, strerror(error)));
  }
  counters->count = json_object_array_length(counters->events);
  if (counters->count > COUNTER_MAX)
    fail(EXIT_PLAN, "make one with fewer --counters",
         "the plan's %zu counters are more than the %d there is room for", counters->count,
         COUNTER_MAX);
}

/* ---- Groups */

static size_t leader_of(const struct counters *counters, size_t number) {
  size_t first = 0;
  while (counters->groups[first] != counters->groups[number])
    first++;
  return first;
}

/* Opens all; false when a group was too large for its hardware, and has been made smaller. */
static bool open_groups(struct counters *counters) {
  for (size_t i = 0; i < counters->count; i++)
    for (unsigned cpu = 0; cpu < counters->cpus; cpu++) {
      int leader = -1;
      for (size_t j = leader_of(counters, i); j < i && leader < 0; j++)
        if (counters->groups[j] == counters->groups[i])
          leader = counters->fds[j * counters->cpus + cpu];
      int fd = event_open(event_of(counters, i), cpu, leader);
      if (fd < 0 && (errno == EMFILE || errno == ENFILE))
        fail(EXIT_KERNEL, "raise the limit of open files (ulimit -Hn), or count less",
             "cannot count %s on CPU %u: %s", name_of(counters, i), cpu, strerror(errno));
      /* Nor is it known of a group when it was not counted, where its first one is not. */
      if (leader_of(counters, i) != i && (fd < 0) != (leader < 0)) {
        note(counters,
             fd < 0 && leader >= 0 && errno == EINVAL
                 ? text("%s is counted by itself: not in one group with those before it (%s)",
                        name_of(counters, i), strerror(errno))
                 : text("%s is counted by itself: not on the same CPUs as %s", name_of(counters, i),
                        name_of(counters, leader_of(counters, i))));
        if (fd >= 0)
          close(fd);
        int last = 0;
        for (size_t j = 0; j < counters->count; j++)
          last = counters->groups[j] > last ? counters->groups[j] : last;
        counters->groups[i] = last + 1;
        return false;
      }
      counters->fds[i * counters->cpus + cpu] = fd;
    }
  return true;
}

static bool is_always(const struct counters *counters, size_t number) {
  for (size_t i = 0; i < counters->count; i++)
    if (counters->groups[i] == counters->groups[number] &&
        !event_is_software(event_of(counters, i)))
      return false;
  return true;
}

static void describe(struct counters *counters) {
  unsigned leaders = 0;
  for (size_t i = 0; i < counters->count; i++) {
    json_object *event = event_of(counters, i);
    bool always = is_always(counters, i);
    size_t leader = leader_of(counters, i);
    counters->always |= (uint32_t)always << i;
    counters->leaders |= (uint32_t)(!always && leader == i) << i;
    leaders += !always && leader == i;
    json_object_object_add(event, "group", json_object_new_int(counters->groups[i]));
    json_object_object_add(event, "leader",
                           json_object_new_string(always ? "" : name_of(counters, leader)));
  }
  counters->records = counters->count ? (1 + counters->count + leaders + 1) / 2 : 0;
}

struct counters counters_open(json_object *wanted, json_object *notes, unsigned cpus) {
  struct counters counters = {.cpus = cpus, .events = json_object_new_array(), .notes = notes};
  if (!wanted)
    return counters;
  choose(&counters, wanted);
  size_t slots = counters.count * cpus;
  descriptors_allow_more(slots);
  counters.fds = allocate(slots, sizeof(*counters.fds));
  counters.groups = allocate(counters.count, sizeof(*counters.groups));
  memset(counters.fds, 0xff, slots * sizeof(*counters.fds)); /* -1 */
  for (size_t i = 0; i < counters.count; i++)
    counters.groups[i] = event_number(event_of(&counters, i), "group");
  while (!open_groups(&counters))
    close_events(&counters);
  describe(&counters);
  return counters;
}

void counters_check(const struct counters *counters, json_object *wanted) {
  if (!wanted || !json_object_array_length(wanted) || counters->count)
    return;
  size_t last = json_object_array_length(counters->notes);
  fail(EXIT_KERNEL, "profinfer doctor shows what can be counted here",
       "none of the counters can be had: %s",
       last ? json_object_get_string(json_object_array_get_idx(counters->notes, last - 1)) : "");
}

/* ---- Counting */

static int attach(const struct programs *programs, const char *program, const char *tracepoint) {
  int link = bpf_raw_tracepoint_open(tracepoint, programs_find(programs, program));
  if (link < 0)
    fail(EXIT_KERNEL, "record without --counters", "cannot attach to tracepoint %s: %s", tracepoint,
         strerror(errno));
  return link;
}

/* Makes each CPU switch tasks once, as far as this process may use it: what the events have counted
 * before is then nobody's. */
static void switch_everywhere(unsigned cpus) {
  size_t size = CPU_ALLOC_SIZE(cpus);
  cpu_set_t own, *one = CPU_ALLOC(cpus);
  if (!one || sched_getaffinity(0, sizeof(own), &own))
    return;
  for (unsigned cpu = 0; cpu < cpus; cpu++) {
    CPU_ZERO_S(size, one);
    CPU_SET_S(cpu, size, one);
    sched_setaffinity(0, size, one);
  }
  sched_setaffinity(0, sizeof(own), &own);
  CPU_FREE(one);
}

void counters_start(struct counters *counters, const struct programs *programs) {
  if (!counters->count)
    return;
  int map = programs_map(programs, "counter_events");
  for (uint32_t i = 0; i < counters->count * counters->cpus; i++)
    if (counters->fds[i] >= 0 && bpf_map_update_elem(map, &i, &counters->fds[i], BPF_ANY))
      fail(EXIT_KERNEL, "", "cannot lend %s to the handlers: %s",
           name_of(counters, i / counters->cpus), strerror(errno));
  close_events(counters); /* the map holds them */
  counters->on_exit = attach(programs, "count_exit", "sched_process_exit");
  counters->on_switch = attach(programs, "count_switch", "sched_switch");
  switch_everywhere(counters->cpus);
}

void counters_end(const struct counters *counters) {
  if (!counters->count)
    return;
  close(counters->on_switch);
  close(counters->on_exit);
}

void counters_say(const struct counters *counters, json_object *start) {
  if (!counters->notes)
    return;
  json_object *said = json_object_new_object(), *leaders = json_object_new_array();
  for (size_t i = 0; i < counters->count; i++)
    if (counters->leaders >> i & 1)
      json_object_array_add(leaders, json_object_new_int(i));
  json_object_object_add(said, "events", json_object_get(counters->events));
  json_object_object_add(said, "leaders", leaders);
  json_object_object_add(said, "records", json_object_new_int(counters->records));
  json_object_object_add(said, "notes", json_object_get(counters->notes));
  json_object_object_add(start, "counters", said);
}
