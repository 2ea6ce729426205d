/* SPDX-License-Identifier: Apache-2.0 */
#include "drain.h"
#include "capture.h"
#include "failure.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct loss *read_losses(const struct handlers *handlers, unsigned cpus) {
  struct loss *now = allocate(cpus * KIND_COUNT, sizeof(*now));
  handlers_losses(handlers, now);
  return now;
}

struct drain drain_begin(const struct handlers *handlers, const struct objects *objects,
                         struct rings rings) {
  struct drain drain = {.handlers = handlers, .objects = objects, .rings = rings};
  drain.named = tids_begin();
  drain.target_name = target_name(objects->target, 0);
  if (!drain.target_name)
    drain.target_name = "?";
  drain.looks = allocate(rings.cpus + 2, sizeof(*drain.looks));
  struct loss *now = read_losses(handlers, rings.cpus);
  drain.losses = losses_begin(rings.cpus, 0, KIND_COUNT, now, boot_ns());
  free(now);
  drain.stub_losses =
      losses_begin(1, 0, KIND_COUNT, (const struct loss[KIND_COUNT]){{0}}, boot_ns());
  return drain;
}

/* A frame of an object in JSON. */
static void json_frame(enum frame_kind kind, uint64_t ts, json_object *object) {
  capture_text(kind, ts, json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
  json_object_put(object);
}

/* ---- Records: they are written as they come, and only the frame that ends the drain says that the
 * time until its horizon is complete. */

static void take_stub_records(void *context, const struct record *records, size_t count) {
  struct drain *drain = context;
  uint32_t last = 0;
  for (size_t i = 0; i < count; i++) {
    const struct record *record = &records[i];
    if (record->kind < KIND_COUNT)
      drain->drained[record->kind]++;
    if (record->kind == KIND_FILE_READ)
      drain->pages_read += 1ull << (record->b >> 58);
    if (record->tid != last && tids_add(&drain->named, record->tid))
      set_add(&drain->fresh, record->tid);
    last = record->tid;
  }
  drain->records += count;
  capture_frame(FRAME_RECORDS, drain->horizon.at, records, count * sizeof(*records));
}

static void take_records(void *context, const struct record *records, size_t count) {
  struct drain *drain = context;
  for (size_t i = 0; i < count; i++) {
    const struct record *record = &records[i];
    uint64_t *newest = &drain->looks[record->cpu < drain->rings.cpus ? record->cpu : 0].newest;
    *newest = record->ts > *newest ? record->ts : *newest;
  }
  take_stub_records(drain, records, count);
}

static void name_threads(struct drain *drain) {
  if (!drain->fresh.count)
    return;
  json_object *names = json_object_new_object();
  for (size_t i = 0; i < drain->fresh.size; i++) {
    uint32_t tid = drain->fresh.slots[i];
    if (!tid)
      continue;
    char key[16], *name = target_name(drain->objects->target, tid);
    run_delay_add(&drain->delay, tid);
    snprintf(key, sizeof(key), "%u", tid);
    /* One that has ended already bears its process's. */
    json_object_object_add(names, key, json_object_new_string(name ? name : drain->target_name));
    free(name);
  }
  free(drain->fresh.slots);
  drain->fresh = (struct set){0};
  json_frame(FRAME_NAMES, drain->horizon.at, names);
}

/* ---- Wide records */

static void take_wide(void *context, const unsigned char *rows, size_t count) {
  struct drain *drain = context;
  json_object *names = 0;
  for (size_t i = 0; i < count; i++) {
    struct structure_record row;
    memcpy(&row, rows + i * WIDE_SIZE, sizeof(row));
    /* Who calls may compute nothing. */
    if (row.header.kind == KIND_CALL && tids_add(&drain->named, row.header.tid))
      set_add(&drain->fresh, row.header.tid);
    if (row.header.kind != KIND_STRUCTURE || !row.backend_name_fn ||
        !set_add(&drain->backends, row.backend_name_fn))
      continue;
    const char *name = objects_backend(drain->objects, row.backend_name_fn);
    if (!name)
      continue;
    char key[24];
    snprintf(key, sizeof(key), "%llu", (unsigned long long)row.backend_name_fn);
    names = names ? names : json_object_new_object();
    json_object_object_add(names, key, json_object_new_string(name));
  }
  if (names)
    json_frame(FRAME_BACKENDS, drain->horizon.at, names);
  drain->records += count;
  capture_frame(FRAME_WIDE, drain->horizon.at, rows, count * WIDE_SIZE);
}

/* ---- All of it */

static void report_losses(struct drain *drain) {
  uint64_t time = boot_ns();
  struct loss *now = read_losses(drain->handlers, drain->rings.cpus);
  struct loss_entry *entries = allocate(losses_room(&drain->losses), sizeof(*entries));
  size_t count = losses_take(&drain->losses, now, time, drain->looks, entries);
  if (count)
    capture_frame(FRAME_LOSS, time, entries, count * sizeof(*entries));
  free(entries);
  free(now);
}

/* What belongs to threads belongs to no CPU. */
static void report_stub_losses(struct drain *drain, bool is_wanted) {
  struct loss now[KIND_COUNT];
  struct loss_entry entries[KIND_COUNT];
  if (!drain->stubs)
    return;
  uint64_t time = boot_ns();
  struct look look = {stub_rings_losses(drain->stubs, now, is_wanted), SEEN_ALL};
  size_t count = losses_take(&drain->stub_losses, now, time, &look, entries);
  for (size_t i = 0; i < count; i++)
    entries[i].cpu = ANY_CPU;
  if (count)
    capture_frame(FRAME_LOSS, time, entries, count * sizeof(*entries));
}

double drain_fill(const struct drain *drain) {
  double rings = rings_fill(&drain->rings), stubs = stub_rings_fill(drain->stubs);
  return rings > stubs ? rings : stubs;
}

/* Whether what they record was to be recorded at any time so far. Of what had been written at the
 * look, the handlers have said by now whether it was. */
static bool take_stubs(struct drain *drain, struct look *look) {
  if (!drain->stubs)
    return false;
  stub_rings_look(drain->stubs);
  struct control control = handlers_control(drain->handlers);
  *look = stub_rings_drain(drain->stubs, drain->horizon.at, control.active_from,
                           control.active_until, take_stub_records, drain);
  return control.active_from != UINT64_MAX;
}

void drain_take(struct drain *drain, uint64_t limit) {
  struct rings *rings = &drain->rings;
  uint64_t now = boot_ns() - HOLD_NS;
  memset(drain->looks, 0, (rings->cpus + 2) * sizeof(*drain->looks));
  for (unsigned cpu = 0; cpu < rings->cpus; cpu++)
    drain->looks[cpu].seen = rings_drain(rings, cpu, take_records, drain);
  drain->looks[rings->cpus].seen = rings_drain_wide(rings, take_wide, drain);
  bool has_begun = take_stubs(drain, &drain->looks[rings->cpus + 1]);
  name_threads(drain);
  report_losses(drain);
  report_stub_losses(drain, has_begun);
  horizon_move(&drain->horizon, limit < now ? limit : now, drain->looks, rings->cpus + 2);
  capture_frame(FRAME_RECORDS, drain->horizon.at, 0, 0);
  run_delay_look(&drain->delay, drain->objects->target);
}

uint64_t drain_lost_of(const struct drain *drain, unsigned kind) {
  return losses_of(&drain->losses, kind) + losses_of(&drain->stub_losses, kind);
}

uint64_t drain_lost(const struct drain *drain) {
  return losses_total(&drain->losses) + losses_total(&drain->stub_losses);
}

uint64_t drain_by_stubs(const struct drain *drain, unsigned kind) {
  return stub_rings_records(drain->stubs, kind) + losses_of(&drain->stub_losses, kind);
}
