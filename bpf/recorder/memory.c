/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"
#include "clocks.h"
#include "descriptors.h"
#include "failure.h"
#include "handlers.h"
#include "mappings.h"
#include "open_files.h"
#include "perf_event.h"
#include "tracepoints.h"

#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct fault_event fault_events[FAULT_EVENTS] = {
    {"on_minor_fault", "page-faults-min", PERF_COUNT_SW_PAGE_FAULTS_MIN},
    {"on_major_fault", "page-faults-maj", PERF_COUNT_SW_PAGE_FAULTS_MAJ},
};

const struct read_field read_fields[READ_FIELDS] = {
    {"PAGE_INODE", "i_ino", 8}, {"PAGE_INDEX", "index", 8}, {"PAGE_DEVICE", "s_dev", 4}};

#define READ_PROGRAM "on_file_read"
/* Seconds between two questions for what the kernel has counted: it adds up over all threads. */
#define COUNT_EVERY_S 0.02
/* Bytes, and a part of all, that may be read unseen before that is worth a word. */
#define UNSEEN_BYTES (64 << 10)
#define UNSEEN_PART 0.02

/* What the kernel has counted of a process until now, -1 where it does not tell. One that has ended
 * has its counts until it is reaped. */
enum { MINOR, MAJOR, READ_BYTES, COUNTS }; /* the last: fetched from storage because of it */
static const char *const count_names[COUNTS] = {"minor", "major", "read_bytes"};

struct kernel_counts {
  int64_t of[COUNTS];
};

struct memory {
  const struct target *target;
  bool faults, reads;
  struct mappings mappings;
  struct kernel_counts before, latest, after;
  double counted; /* when the latest were, CLOCK_MONOTONIC in seconds */
  int *events;    /* that run the programs */
  size_t event_count;
};

struct memory *memory_open(const struct target *target, bool faults, bool reads) {
  struct memory *memory = allocate(1, sizeof(*memory));
  memory->target = target;
  memory->faults = faults;
  memory->reads = reads;
  memory->mappings = mappings_open(target);
  return memory;
}

static bool is_wanted(const struct memory *memory) { return memory->faults || memory->reads; }

/* ---- What is loaded */

/* Where the tracepoint tells how much was read; -1 where it does not. */
static int order_field(void) { return tracepoint_field(READ_TRACEPOINT, "order", 1); }

void memory_source(const struct memory *memory, struct source *source) {
  if (memory->faults)
    for (size_t i = 0; i < FAULT_EVENTS; i++)
      source_program(source, fault_events[i].program, AT_PERF_EVENT);
  if (memory->reads)
    source_program(source, READ_PROGRAM, AT_TRACEPOINT);
  source_parameter(source, "TARGET", memory->target->pid);
  source_parameter(source, "PAGE_ORDER", memory->reads ? order_field() : -1);
  for (size_t i = 0; i < READ_FIELDS; i++) {
    struct problem why = {0};
    int offset = -1;
    if (memory->reads)
      offset =
          tracepoint_need_field(READ_TRACEPOINT, read_fields[i].field, read_fields[i].size, &why);
    if (why.message)
      fail(why.code, why.code == EXIT_KERNEL ? "record without --block-io" : why.hint, "%s",
           why.message);
    source_parameter(source, read_fields[i].parameter, offset);
  }
}

/* ---- Attaching */

static void keep(struct memory *memory, int event) {
  memory->events = reallocarray(memory->events, memory->event_count + 1, sizeof(int));
  if (!memory->events)
    fail(EXIT_KERNEL, "", "out of memory");
  memory->events[memory->event_count++] = event;
}

static void attach_fault(struct memory *memory, const struct fault_event *event, int program,
                         long cpu) {
  char *what = text("page fault events on CPU %ld", cpu);
  int opened = perf_event_open(PERF_TYPE_SOFTWARE, event->number, cpu, what, 0);
  perf_event_run(opened, program, what);
  keep(memory, opened);
  free(what);
}

/* On every CPU that is online: a list such as "0-3,8". */
static void attach_faults(struct memory *memory, const struct fault_event *event, int program) {
  char line[4096] = "", *at = line;
  FILE *file = fopen("/sys/devices/system/cpu/online", "re");
  if (!file || !fgets(line, sizeof(line), file))
    fail(EXIT_KERNEL, "mount /sys", "cannot read which CPUs are online");
  fclose(file);
  while (*at >= '0' && *at <= '9') {
    long first = strtol(at, &at, 10), last = *at == '-' ? strtol(at + 1, &at, 10) : first;
    for (long cpu = first; cpu <= last; cpu++)
      attach_fault(memory, event, program, cpu);
    at += *at == ',';
  }
}

/* ---- The kernel's own counts */

static struct kernel_counts count(const struct target *target) {
  struct kernel_counts counts = {.of = {-1, -1, -1}}, read = counts;
  char *stat = target_read(target, "stat", 0), *io = target_read(target, "io", 0);
  const char *fields = stat ? strrchr(stat, ')') : 0;
  const char *read_bytes = io ? strstr(io, "\nread_bytes:") : 0;
  /* ") state parent group session terminal terminal_group flags minor of_children major ..." */
  if (fields && sscanf(fields, ") %*s %*s %*s %*s %*s %*s %*s %" SCNd64 " %*s %" SCNd64,
                       &read.of[MINOR], &read.of[MAJOR]) == 2)
    counts = read;
  if (!read_bytes || sscanf(read_bytes, "\nread_bytes: %" SCNd64, &counts.of[READ_BYTES]) != 1)
    counts.of[READ_BYTES] = -1;
  free(stat);
  free(io);
  return counts;
}

static void add_count(json_object **counts, int which, int64_t count) {
  if (!*counts)
    *counts = json_object_new_object();
  json_object_object_add(*counts, count_names[which], json_object_new_int64(count));
}

json_object *memory_json(const struct memory *memory) {
  if (!is_wanted(memory))
    return 0;
  json_object *kernel = 0, *at_least = 0, *said = json_object_new_object();
  for (int i = 0; i < COUNTS; i++) {
    int64_t before = memory->before.of[i];
    if (before >= 0 && memory->after.of[i] >= 0)
      add_count(&kernel, i, memory->after.of[i] - before);
    else if (before >= 0 && memory->latest.of[i] >= 0)
      add_count(&at_least, i, memory->latest.of[i] - before);
  }
  json_object_object_add(said, "kernel", kernel);
  if (at_least)
    json_object_object_add(said, "kernel_at_least", at_least);
  return said;
}

char *memory_unseen(const struct memory *memory, uint64_t pages) {
  bool is_final = memory->after.of[READ_BYTES] >= 0;
  int64_t before = memory->before.of[READ_BYTES];
  int64_t after = is_final ? memory->after.of[READ_BYTES] : memory->latest.of[READ_BYTES];
  int64_t read = after - before;
  int64_t seen = pages * sysconf(_SC_PAGESIZE), unseen = read - seen;
  if (!memory->reads || before < 0 || after < 0 || order_field() < 0 || unseen < UNSEEN_BYTES ||
      unseen < UNSEEN_PART * read)
    return 0;
  return text("by the kernel's count this process has read %s%.1f MB, of which %.1f MB came into "
              "the page cache: the rest is from swap or direct I/O, and of no file in the trace",
              is_final ? "" : "at least ", read / 1e6, seen / 1e6);
}

/* ---- Recording */

void memory_begin(struct memory *memory, const struct programs *programs) {
  if (!is_wanted(memory))
    return;
  memory->before = memory->latest = count(memory->target);
  descriptors_allow_more(FAULT_EVENTS * handlers_cpus());
  for (size_t i = 0; memory->faults && i < FAULT_EVENTS; i++)
    attach_faults(memory, &fault_events[i], programs_find(programs, fault_events[i].program));
  if (memory->reads)
    keep(memory, tracepoint_attach(programs_find(programs, READ_PROGRAM), READ_TRACEPOINT));
  open_files_look_at_names(&memory->mappings.models, memory->target);
  mappings_look(&memory->mappings);
}

void memory_look(struct memory *memory) {
  if (is_wanted(memory))
    mappings_look(&memory->mappings);
}

void memory_glance(struct memory *memory) {
  if (!is_wanted(memory))
    return;
  mappings_glance(&memory->mappings);
  double now = clock_s(CLOCK_MONOTONIC);
  if (now < memory->counted + COUNT_EVERY_S)
    return;
  struct kernel_counts counts = count(memory->target);
  memory->counted = now;
  for (int i = 0; i < COUNTS; i++)
    if (counts.of[i] >= 0)
      memory->latest.of[i] = counts.of[i];
}

double memory_nap(const struct memory *memory, double usual) {
  double nap = is_wanted(memory) ? mappings_nap(&memory->mappings) : usual;
  return nap < usual ? nap : usual;
}

void memory_end(struct memory *memory) {
  if (!is_wanted(memory))
    return;
  for (size_t i = 0; i < memory->event_count; i++)
    close(memory->events[i]);
  memory->event_count = 0;
  memory->after = count(memory->target);
}

void memory_models(struct memory *memory) {
  models_write(&memory->mappings.models);
  mappings_close(&memory->mappings);
}

static void add_event_program(const struct programs *programs, const char *name, const char *event,
                              json_object *list) {
  struct program_stats stats = programs_stats(programs_find(programs, name));
  json_object *said = json_object_new_object();
  json_object_object_add(said, "program", json_object_new_string(name));
  json_object_object_add(said, "event", json_object_new_string(event));
  json_object_object_add(said, "runs", 0); /* not every run makes a record */
  json_object_object_add(said, "timed_runs", json_object_new_int64(stats.runs));
  json_object_object_add(said, "timed_ns", json_object_new_int64(stats.run_ns));
  json_object_array_add(list, said);
}

void memory_event_programs(const struct memory *memory, const struct programs *programs,
                           json_object *list) {
  for (size_t i = 0; memory->faults && i < FAULT_EVENTS; i++)
    add_event_program(programs, fault_events[i].program, fault_events[i].name, list);
  if (memory->reads)
    add_event_program(programs, READ_PROGRAM, READ_EVENT, list);
}

const char *memory_note(void) {
  return order_field() < 0 ? "this kernel does not tell the size of what it reads: of larger parts "
                             "than a page only the first page is counted"
                           : 0;
}

void memory_notes(const struct memory *memory, json_object *notes) {
  const char *note = memory->reads ? memory_note() : 0;
  if (note)
    json_object_array_add(notes, json_object_new_string(note));
}
