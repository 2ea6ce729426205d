/* SPDX-License-Identifier: Apache-2.0 */
/* From the scheduler's rings to frames, as drain.c does it for the engine's. */
#include "capture.h"
#include "failure.h"
#include "scheduler.h"
#include "tasks.h"

#include <stdlib.h>
#include <string.h>

static void know(void *scheduler, uint32_t tid) {
  strangers_know(&((struct scheduler *)scheduler)->strangers, tid);
}

/* ---- The beginning */

static struct loss *read_losses(const struct scheduler *scheduler) {
  size_t count = (size_t)scheduler->rings.cpus * SCHEDULER_KINDS;
  struct loss *now = allocate(count, sizeof(*now));
  memcpy(now, scheduler->lost, count * sizeof(*now));
  return now;
}

/* What a program has done since the beginning of the recording. */
static struct program_stats stats_of(const struct scheduler *scheduler, int i) {
  int program = scheduler->events[i].program;
  struct program_stats now = {0}, first = scheduler->events[i].first;
  if (program >= 0)
    now = programs_stats(program);
  return (struct program_stats){now.runs - first.runs, now.run_ns - first.run_ns,
                                now.misses - first.misses};
}

void scheduler_begin(struct scheduler *scheduler) {
  unsigned cpus = scheduler->rings.cpus;
  struct loss *now = read_losses(scheduler);
  scheduler->losses = losses_begin(cpus, FIRST_SCHEDULER_KIND, SCHEDULER_KINDS, now, 0);
  scheduler->looks = allocate(cpus, sizeof(*scheduler->looks));
  scheduler->strangers = strangers_begin();
  for (int i = 0; i < SCHEDULER_PROGRAMS; i++)
    scheduler->events[i].first = stats_of(scheduler, i);
  free(now);
}

void scheduler_begun(struct scheduler *scheduler, uint64_t since) {
  struct tasks tasks = tasks_begin();
  scheduler->losses.read_at = since;
  tasks_add_all(&tasks, know, scheduler);
  char *said = tasks_end(&tasks, since);
  capture_text(FRAME_TASKS, boot_ns(), said);
  free(said);
}

/* ---- Records: they are written as they come, and only the frame that ends the drain says that the
 * time until its horizon is complete. */

static void take_records(void *context, const struct record *records, size_t count) {
  struct scheduler *scheduler = context;
  for (const struct record *record = records; record < records + count; record++) {
    struct look *look = &scheduler->looks[record->cpu < scheduler->rings.cpus ? record->cpu : 0];
    unsigned kind = record->kind - FIRST_SCHEDULER_KIND;
    look->newest = record->ts > look->newest ? record->ts : look->newest;
    if (kind < SCHEDULER_KINDS)
      scheduler->drained[kind]++;
  }
  strangers_meet(&scheduler->strangers, records, count);
  scheduler->records += count;
  capture_frame(FRAME_SCHEDULER, scheduler->horizon.at, records, count * sizeof(*records));
}

/* Threads of whose beginning nothing is known. Told before what they do is complete. */
static void tell_strangers(struct scheduler *scheduler) {
  uint32_t *tids;
  size_t count = strangers_take(&scheduler->strangers, &tids);
  struct tasks tasks = tasks_begin();
  if (!count) {
    free(tids);
    return;
  }
  for (size_t i = 0; i < count; i++)
    tasks_add(&tasks, (pid_t)tids[i], know, scheduler);
  free(tids);
  char *said = tasks_end(&tasks, 0);
  capture_text(FRAME_TASKS, scheduler->horizon.at, said);
  free(said);
}

/* What was lost since the last look: by CPU what did not fit, and what was never made because the
 * kernel runs no program within another one. */
static void report_losses(struct scheduler *scheduler) {
  struct losses *losses = &scheduler->losses;
  uint64_t time = boot_ns(), before = losses->read_at;
  struct loss *now = read_losses(scheduler);
  struct loss_entry *entries = allocate(losses_room(losses) + SCHEDULER_PROGRAMS, sizeof(*entries));
  size_t count = losses_take(losses, now, time, scheduler->looks, entries);
  for (int i = 0; i < SCHEDULER_PROGRAMS; i++) {
    uint64_t missed = stats_of(scheduler, i).misses;
    if (missed > scheduler->events[i].missed)
      entries[count++] =
          (struct loss_entry){ANY_CPU, scheduler_events[i].kind, missed, before, boot_ns()};
    scheduler->events[i].missed = missed;
  }
  if (count)
    capture_frame(FRAME_LOSS, time, entries, count * sizeof(*entries));
  free(entries);
  free(now);
}

uint64_t scheduler_take(struct scheduler *scheduler) {
  const struct rings *rings = &scheduler->rings;
  uint64_t limit = boot_ns() - HOLD_NS;
  memset(scheduler->looks, 0, rings->cpus * sizeof(*scheduler->looks));
  for (unsigned cpu = 0; cpu < rings->cpus; cpu++)
    scheduler->looks[cpu].seen = rings_drain(rings, cpu, take_records, scheduler);
  horizon_move(&scheduler->horizon, limit, scheduler->looks, rings->cpus);
  tell_strangers(scheduler);
  report_losses(scheduler);
  capture_frame(FRAME_SCHEDULER, scheduler->horizon.at, 0, 0);
  return scheduler->horizon.at;
}

/* ---- What came of it */

double scheduler_fill(const struct scheduler *scheduler) {
  return scheduler ? rings_fill(&scheduler->rings) : 0;
}

uint64_t scheduler_records(const struct scheduler *scheduler) {
  return scheduler ? scheduler->records : 0;
}

uint64_t scheduler_lost(const struct scheduler *scheduler) {
  uint64_t lost = scheduler ? losses_total(&scheduler->losses) : 0;
  for (int i = 0; scheduler && i < SCHEDULER_PROGRAMS; i++)
    lost += scheduler->events[i].missed;
  return lost;
}

/* Runs of a program while it was recorded; -1 where not every one makes a record: others' events
 * end without one where only the target is recorded. */
static int64_t runs(const struct scheduler *scheduler, int i) {
  enum scheduler_kind kind = scheduler_events[i].kind;
  if (!scheduler->is_all)
    return -1;
  return scheduler->drained[kind - FIRST_SCHEDULER_KIND] + losses_of(&scheduler->losses, kind);
}

void scheduler_event_programs(const struct scheduler *scheduler, json_object *list) {
  for (int i = 0; scheduler && i < SCHEDULER_PROGRAMS; i++) {
    if (scheduler->events[i].program < 0)
      continue;
    const char *event = strchr(scheduler_events[i].tracepoint, '/');
    struct program_stats stats = stats_of(scheduler, i);
    json_object *said = json_object_new_object();
    int64_t made = runs(scheduler, i);
    json_object_object_add(said, "program", json_object_new_string(scheduler_events[i].program));
    json_object_object_add(
        said, "event", json_object_new_string(event ? event + 1 : scheduler_events[i].tracepoint));
    json_object_object_add(said, "runs", made < 0 ? 0 : json_object_new_int64(made));
    json_object_object_add(said, "timed_runs", json_object_new_int64(stats.runs));
    json_object_object_add(said, "timed_ns", json_object_new_int64(stats.run_ns));
    json_object_array_add(list, said);
  }
}
