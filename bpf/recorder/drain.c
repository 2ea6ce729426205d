/* SPDX-License-Identifier: Apache-2.0 */
#include "drain.h"
#include "capture.h"
#include "failure.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A handler may be interrupted between taking its slot and the time: longer than that is seen as an
 * unfinished slot, which stops the drain. */
#define HOLD_NS 1000000

struct drain drain_begin(const struct programs *programs, const struct objects *objects,
                         struct rings rings) {
  struct drain drain = {.programs = programs, .objects = objects, .rings = rings};
  drain.target_name = target_name(objects->target, 0);
  if (!drain.target_name)
    drain.target_name = "?";
  drain.losses = allocate(rings.cpus * KIND_COUNT, sizeof(*drain.losses));
  drain.newest = allocate(rings.cpus, sizeof(*drain.newest));
  programs_losses(programs, drain.losses);
  drain.read_at = boot_ns();
  return drain;
}

/* A frame of an object in JSON. */
static void json_frame(enum frame_kind kind, uint64_t ts, json_object *object) {
  capture_text(kind, ts, json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
  json_object_put(object);
}

/* ---- Records: they are written as they come, and only the frame that ends the drain says that the
 * time until its horizon is complete. */

static void take_records(void *context, const struct record *records, size_t count) {
  struct drain *drain = context;
  uint32_t last = 0;
  for (size_t i = 0; i < count; i++) {
    const struct record *record = &records[i];
    uint64_t *newest = &drain->newest[record->cpu < drain->rings.cpus ? record->cpu : 0];
    *newest = record->ts > *newest ? record->ts : *newest;
    if (record->kind < KIND_COUNT)
      drain->drained[record->kind]++;
    if (record->tid != last && set_add(&drain->named, record->tid))
      set_add(&drain->fresh, record->tid);
    last = record->tid;
  }
  drain->records += count;
  capture_frame(FRAME_RECORDS, drain->horizon, records, count * sizeof(*records));
}

static void name_threads(struct drain *drain) {
  if (!drain->fresh.count)
    return;
  json_object *names = json_object_new_object();
  for (size_t i = 0; i < drain->fresh.size; i++) {
    uint32_t tid = drain->fresh.slots[i];
    if (!tid)
      continue;
    run_delay_add(&drain->delay, tid);
    char key[16], *name = target_name(drain->objects->target, tid);
    snprintf(key, sizeof(key), "%u", tid);
    /* One that has ended already bears its process's. */
    json_object_object_add(names, key, json_object_new_string(name ? name : drain->target_name));
    free(name);
  }
  free(drain->fresh.slots);
  drain->fresh = (struct set){0};
  json_frame(FRAME_NAMES, drain->horizon, names);
}

/* ---- Wide records */

static void take_wide(void *context, const unsigned char *rows, size_t count) {
  struct drain *drain = context;
  json_object *names = 0;
  for (size_t i = 0; i < count; i++) {
    struct structure_record row;
    memcpy(&row, rows + i * WIDE_SIZE, sizeof(row));
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
    json_frame(FRAME_BACKENDS, drain->horizon, names);
  drain->records += count;
  capture_frame(FRAME_WIDE, drain->horizon, rows, count * WIDE_SIZE);
}

/* ---- Losses */

/* What was lost since the last look. Nobody else takes records out: once a ring was full it stayed
 * full until it was drained, so everything drained from it is older than the losses. */
static void report_losses(struct drain *drain) {
  size_t total = drain->rings.cpus * KIND_COUNT, count = 0;
  struct loss *now = allocate(total, sizeof(*now));
  struct loss_entry *entries = allocate(total, sizeof(*entries));
  uint64_t time = boot_ns();
  programs_losses(drain->programs, now);
  for (size_t i = 0; i < total; i++) {
    unsigned cpu = i / KIND_COUNT, kind = i % KIND_COUNT;
    if (now[i].lost <= drain->losses[i].lost)
      continue;
    uint64_t since = drain->read_at;
    if (!is_wide(kind) && drain->newest[cpu] > since)
      since = drain->newest[cpu];
    if (since > now[i].last_ts)
      since = now[i].last_ts;
    entries[count++] = (struct loss_entry){cpu, kind, now[i].lost, since, now[i].last_ts};
  }
  free(drain->losses);
  drain->losses = now;
  drain->read_at = time;
  if (count)
    capture_frame(FRAME_LOSS, time, entries, count * sizeof(*entries));
  free(entries);
}

void drain_take(struct drain *drain) {
  uint64_t horizon = boot_ns() - HOLD_NS;
  memset(drain->newest, 0, drain->rings.cpus * sizeof(*drain->newest));
  for (unsigned cpu = 0; cpu < drain->rings.cpus; cpu++) {
    if (!drain->rings.drain(cpu, take_records, drain))
      continue;
    uint64_t newest = drain->rings.in_order ? drain->newest[cpu] : 0;
    uint64_t until = newest ? newest : drain->horizon;
    horizon = until < horizon ? until : horizon;
  }
  if (horizon < drain->horizon)
    horizon = drain->horizon;
  drain->rings.drain_wide(take_wide, drain);
  name_threads(drain);
  report_losses(drain);
  drain->horizon = horizon;
  capture_frame(FRAME_RECORDS, drain->horizon, 0, 0);
  run_delay_look(&drain->delay, drain->objects->target);
}

uint64_t drain_lost_of(const struct drain *drain, unsigned kind) {
  uint64_t lost = 0;
  for (unsigned cpu = 0; cpu < drain->rings.cpus; cpu++)
    lost += drain->losses[cpu * KIND_COUNT + kind].lost;
  return lost;
}

uint64_t drain_lost(const struct drain *drain) {
  uint64_t lost = 0;
  for (unsigned kind = 0; kind < KIND_COUNT; kind++)
    lost += drain_lost_of(drain, kind);
  return lost;
}
