/* SPDX-License-Identifier: Apache-2.0 */
/* What stubs have not recorded, and why. */
#include "capture.h"
#include "failure.h"
#include "filters.h"
#include "stub_known.h"

#include <stdlib.h>
#include <string.h>

#define FILTERS_NS 250000000ull /* between two looks at the threads */

void stub_rings_forget_lost(struct stub_rings *rings) {
  struct file_head file;
  for (unsigned i = 0; i < rings->file.rings; i++) {
    struct stub_ring head;
    if (stub_file_head(&rings->file, i, &head))
      memcpy(rings->rings[i].lost, head.lost, sizeof(head.lost));
    rings->rings[i].sum = 0;
  }
  if (stub_file_lost(&rings->file, &file))
    memcpy(rings->lost, file.lost, sizeof(file.lost));
  rings->sum = 0;
}

/* A count that has gone back, or up by more than can be, is the target's lie: nothing is lost. The
 * sum of what has. */
static uint64_t add_lost(const uint64_t now[HOT + 1], const uint64_t first[HOT + 1],
                         struct loss losses[KIND_COUNT]) {
  uint64_t sum = 0;
  for (unsigned kind = 1; kind <= HOT; kind++)
    if (now[kind] > first[kind] && now[kind] - first[kind] < 1ull << 48) {
      losses[kind].lost += now[kind] - first[kind];
      sum += now[kind] - first[kind];
    }
  return sum;
}

/* As in losses.c: once a ring was full it stayed full until it was drained. */
uint64_t stub_rings_losses(struct stub_rings *rings, struct loss losses[KIND_COUNT],
                           bool is_wanted) {
  struct file_head file;
  uint64_t since = UINT64_MAX;
  memset(losses, 0, KIND_COUNT * sizeof(*losses));
  for (unsigned i = 0; i < rings->file.rings; i++) {
    struct ring *ring = &rings->rings[i];
    struct stub_ring head;
    uint64_t sum = stub_file_head(&rings->file, i, &head) ? add_lost(head.lost, ring->lost, losses)
                                                          : ring->sum;
    if (sum != ring->sum && ring->newest < since)
      since = ring->newest;
    ring->sum = sum;
  }
  if (stub_file_lost(&rings->file, &file)) {
    uint64_t sum = add_lost(file.lost, rings->lost, losses);
    since = sum != rings->sum ? 0 : since;
    rings->sum = sum;
  }
  for (unsigned kind = 1; kind <= HOT; kind++)
    losses[kind].last_ts = losses[kind].lost ? boot_ns() : 0;
  /* Where nobody took anything out for long, the library has switched them off. */
  if (since != UINT64_MAX)
    stub_file_switch(&rings->file, rings->on, rings->word);
  if (!is_wanted) {
    stub_rings_forget_lost(rings);
    memset(losses, 0, KIND_COUNT * sizeof(*losses));
  }
  return since;
}

json_object *stub_rings_json(const struct stub_rings *rings) {
  if (!rings)
    return 0;
  json_object *said = json_object_new_object();
  uint64_t records = 0;
  for (unsigned kind = 1; kind <= HOT; kind++)
    records += rings->records[kind];
  json_object_object_add(said, "records", json_object_new_int64(records));
  json_object_object_add(said, "bound_ns", json_object_new_double(rings->ticks.worst));
  json_object_object_add(said, "refused", json_object_new_int64(rings->refused));
  json_object_object_add(said, "unfinished", json_object_new_int64(rings->unfinished));
  return said;
}

static void note(json_object *notes, uint64_t count, const char *format) {
  char *said = text(format, (unsigned long long)count);
  if (count)
    json_object_array_add(notes, json_object_new_string(said));
  free(said);
}

void stub_rings_notes(const struct stub_rings *rings, json_object *notes) {
  struct file_head file;
  if (!rings)
    return;
  note(notes, rings->refused,
       "%llu records in the process's own rings could not be true: they were left out");
  if (stub_file_lost(&rings->file, &file) && file.forbidden > rings->forbidden)
    note(notes, file.forbidden - rings->forbidden,
         "%llu threads may not read the time stamp counter: their operators were not recorded");
}

/* ---- What they cannot do */

static bool are_filtered(struct stub_rings *rings) {
  uint64_t now = boot_ns();
  if (now - rings->filters_at < FILTERS_NS)
    return false;
  rings->filters_at = now;
  return filters_are_on(rings->target);
}

const char *stub_rings_problem(struct stub_rings *rings) {
  struct file_head file;
  const char *why = 0;
  if (!rings || rings->is_given_up || target_has_ended(rings->target))
    return 0;
  if (stub_file_lost(&rings->file, &file) && file.forbidden > rings->forbidden)
    why = "a thread may not read the time stamp counter (PR_SET_TSC)";
  else if (are_filtered(rings))
    why = "a thread runs under a system call filter (seccomp), or /proc does not tell";
  if (!why)
    return 0;
  rings->is_given_up = true;
  stub_rings_off(rings);
  return why;
}
