/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"
#include "perf_event.h"
#include "pid_namespace.h"
#include "tracepoints.h"
#include "tries.h"

#include <linux/perf_event.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

static void set_text(json_object *in, const char *key, const char *value) {
  json_object_object_add(in, key, json_object_new_string(value));
}

/* Opens one of each event; "" or what is said of the first that cannot be. */
static struct problem try_faults(void) {
  struct problem why = {.message = 0, .hint = ""};
  for (size_t i = 0; !why.message && i < FAULT_EVENTS; i++) {
    int event = perf_event_open(PERF_TYPE_SOFTWARE, fault_events[i].number, sched_getcpu(),
                                fault_events[i].name, &why);
    if (event >= 0)
      close(event);
  }
  return why;
}

static struct problem try_reads(void) {
  struct problem why = {.message = 0, .hint = ""};
  for (size_t i = 0; !why.message && i < READ_FIELDS; i++)
    tracepoint_need_field(READ_TRACEPOINT, read_fields[i].field, read_fields[i].size, &why);
  if (why.message && why.code == EXIT_KERNEL && !*why.hint)
    why.hint = "kernels built with CONFIG_TRACEPOINTS have it; or record without";
  return why;
}

static struct problem lack_of_pids(void) {
  return (struct problem){EXIT_KERNEL, HINT_ALL_PIDS, text("%s", pids_problem())};
}

void try_memory(json_object *in) {
  bool has_pids = !*pids_problem();
  struct problem faults = has_pids ? try_faults() : lack_of_pids();
  struct problem reads = has_pids ? try_reads() : lack_of_pids();
  const char *note = reads.message ? 0 : memory_note();
  json_object *notes = json_object_new_array();
  if (note)
    json_object_array_add(notes, json_object_new_string(note));
  set_text(in, "faults", faults.message ? faults.message : "");
  set_text(in, "faults_hint", faults.hint);
  set_text(in, "reads", reads.message ? reads.message : "");
  set_text(in, "reads_hint", reads.hint);
  json_object_object_add(in, "notes", notes);
  free(faults.message);
  free(reads.message);
}
