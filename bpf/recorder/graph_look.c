/* SPDX-License-Identifier: Apache-2.0 */
#include "graph_look.h"
#include "clocks.h"
#include "failure.h"
#include "launch.h"
#include "message.h"
#include "programs.h"
#include "uprobe.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PLACES 64
#define LOOK_US 2000

void work_say(const struct work *work, json_object *message) {
  json_object *arguments = json_object_new_array();
  for (size_t i = 0; i < sizeof(work->arguments) / sizeof(*work->arguments); i++)
    json_object_array_add(arguments, json_object_new_int64(work->arguments[i]));
  json_object_object_add(message, "arguments", arguments);
}

/* The map is ours alone: whose arguments they are need not be asked, in whatever PID namespace. */
static bool first_entry(int works, struct work *work) {
  uint32_t pid;
  return !bpf_map_get_next_key(works, 0, &pid) && !bpf_map_lookup_elem(works, &pid, work);
}

bool graph_look(json_object *request, struct work *work) {
  json_object *list = message_list(request, "offsets");
  size_t count = list ? json_object_array_length(list) : 0, attached;
  pid_t pid = message_integer(request, "pid", INT32_MAX);
  double until = clock_s(CLOCK_MONOTONIC) + message_integer(request, "seconds", 60);
  uint64_t offsets[PLACES];
  int fds[PLACES];
  char path[32];
  if (!count || count > PLACES)
    fail(EXIT_USAGE, "", "a graph cannot be looked for at %zu places", count);
  for (size_t i = 0; i < count; i++)
    offsets[i] = json_object_get_int64(json_object_array_get_idx(list, i));
  struct source source = launch_source(false);
  struct programs *programs = programs_load(&source, 0);
  snprintf(path, sizeof(path), "/proc/self/fd/%d",
           (int)message_integer(request, "file", INT16_MAX));
  attached =
      uprobe_events(programs_find(programs, "on_graph"), path, offsets, count, pid, false, fds);
  if (attached < count && errno != ESRCH)
    fail(EXIT_PROBES, "", "cannot see process %d compute a graph: %s", pid, strerror(errno));
  int works = programs_map(programs, "works");
  bool is_seen = false;
  while (!(is_seen = first_entry(works, work)) && clock_s(CLOCK_MONOTONIC) < until)
    usleep(LOOK_US);
  uprobe_close(fds, attached);
  return is_seen;
}
