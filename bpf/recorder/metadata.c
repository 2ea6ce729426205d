/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata.h"
#include "../records.h"
#include "capture.h"
#include "cgroup.h"
#include "failure.h"
#include "pid_namespace.h"

#include <bpf/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static void set(json_object *of, const char *name, json_object *value) {
  json_object_object_add(of, name, value);
}

static json_object *string(const char *value) { return json_object_new_string(value); }

static json_object *number(uint64_t value) { return json_object_new_int64(value); }

/* A member that is an object; made where it is missing. */
static json_object *section(json_object *of, const char *name) {
  json_object *found = 0;
  if (json_object_object_get_ex(of, name, &found) && json_object_is_type(found, json_type_object))
    return found;
  set(of, name, found = json_object_new_object());
  return found;
}

/* What /proc/cpuinfo calls this processor. */
static char *cpu_model(const char *machine) {
  static const char *const names[] = {"model name", "Model", "CPU part"};
  char *line = 0, *model = 0;
  size_t room = 0;
  FILE *file = fopen("/proc/cpuinfo", "re");
  while (file && !model && getline(&line, &room, file) > 0)
    for (size_t i = 0; i < sizeof(names) / sizeof(*names) && !model; i++) {
      char *colon = strchr(line, ':');
      if (!colon || strncmp(line, names[i], strlen(names[i])))
        continue;
      char *value = colon + 1 + strspn(colon + 1, " \t");
      model = utf8(value, strcspn(value, "\n"));
    }
  if (file)
    fclose(file);
  free(line);
  return model ? model : text("%s", machine);
}

/* What tells this boot from every other: merging asks it. */
static json_object *boot_id(void) {
  char id[64] = "";
  FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
  if (file && fscanf(file, "%63s", id) != 1)
    id[0] = 0;
  if (file)
    fclose(file);
  return string(id);
}

static json_object *command_line(const struct target *target) {
  json_object *words = json_object_new_array();
  size_t length = 0;
  char *raw = target_read(target, "cmdline", &length);
  for (size_t at = 0; at < length;) {
    size_t word = strlen(raw + at);
    char *valid = utf8(raw + at, word);
    json_object_array_add(words, string(valid));
    free(valid);
    at += word + 1;
  }
  free(raw);
  return words;
}

static json_object *string_or_null(const char *value) { return value ? string(value) : 0; }

/* Null: nothing tells that it is in one, or of one. */
static void set_cgroup(json_object *target, const struct target *of) {
  char *raw = target_read(of, "cgroup", 0);
  struct cgroup cgroup = cgroup_parse(raw ? raw : "");
  set(target, "cgroup", string_or_null(cgroup.path));
  set(target, "container_id", string_or_null(cgroup.container));
  set(target, "pod", string_or_null(cgroup.pod));
  set(target, "unit", string_or_null(cgroup.unit));
  cgroup_free(&cgroup);
  free(raw);
}

/* Whose numbers the trace's threads bear, where they are not the machine's. */
static void set_pid_namespace(json_object *start) {
  if (pids_are_the_machines())
    return;
  json_object *said = section(start, "pid_namespace");
  set(said, "inode", number(pids_inode()));
  set(said, "strangers_from", number(STRANGER));
}

/* Where profinfer asks, it has named the files itself; in a plan from elsewhere they are copies. */
static void set_target(json_object *start, const struct options *options,
                       const struct objects *objects) {
  json_object *target = section(start, "target"), *files = 0;
  char *name = target_name(objects->target, 0);
  set(target, "pid", number(objects->target->pid));
  set(target, "name", string(name ? name : "?"));
  set(target, "command", command_line(objects->target));
  set_cgroup(target, objects->target);
  free(name);
  if (options->plan_fd >= 0 && json_object_object_get_ex(target, "objects", &files))
    return;
  files = json_object_new_array();
  for (size_t i = 0; i < objects->count; i++) {
    json_object *file = json_object_new_object();
    const struct plan_object *planned = &objects->plan->objects[objects->found[i].planned];
    set(file, "path", string(objects->found[i].path));
    set(file, "build_id", string(*planned->build_id ? planned->build_id : planned->sha256));
    json_object_array_add(files, file);
  }
  set(target, "objects", files);
}

/* Without the probes above the level that is recorded. */
static void set_plan(json_object *start, enum level level) {
  json_object *plan = section(start, "plan"), *probes = 0, *kept = json_object_new_array();
  set(plan, "level", string(level_names[level]));
  if (json_object_object_get_ex(plan, "probes", &probes) &&
      json_object_is_type(probes, json_type_array))
    for (size_t i = 0; i < json_object_array_length(probes); i++) {
      json_object *probe = json_object_array_get_idx(probes, i), *of = 0;
      if (json_object_object_get_ex(probe, "level", &of) &&
          level_named(json_object_get_string(of)) <= level)
        json_object_array_add(kept, json_object_get(probe));
    }
  set(plan, "probes", kept);
  if (!json_object_object_get_ex(plan, "missing", &probes))
    set(plan, "missing", json_object_new_object());
}

/* Of the command line: ended by 0; none where there is no command. */
static json_object *words_of(char **command) {
  json_object *words = json_object_new_array();
  for (; command && *command; command++) {
    char *valid = utf8(*command, strlen(*command));
    json_object_array_add(words, string(valid));
    free(valid);
  }
  return words;
}

/* Where profinfer asks, the whole configuration is its own. */
static void set_config(json_object *start, const struct options *options, enum level level) {
  json_object *config = section(start, "config"), *filter = 0;
  if (options->plan_fd >= 0)
    return;
  static const char *const filters[] = {"operator_names", "operator_ops"};
  set(config, "pid", number(options->pid));
  set(config, "output", string(options->output));
  set(config, "level", string(level_names[level]));
  set(config, "duration", options->duration ? json_object_new_double(options->duration) : 0);
  set(config, "poll", json_object_new_double(options->poll));
  set(config, "ring_size", string(text("%zu", options->ring_size)));
  set(config, "structure_ring_size", string(text("%zu", options->structure_ring_size)));
  set(config, "experts", json_object_new_boolean(options->experts));
  set(config, "expert_weights", json_object_new_boolean(options->expert_weights));
  set(config, "transport", string(options->transport));
  set(config, "attach", string(options->attach));
  set(config, "scheduler", string(options->scheduler));
  set(config, "faults", json_object_new_boolean(options->faults));
  set(config, "block_io", json_object_new_boolean(options->block_io));
  set(config, "evict", json_object_new_boolean(options->evict));
  set(config, "empty_handlers", json_object_new_boolean(options->empty_handlers));
  set(config, "alternate", options->alternate ? json_object_new_double(options->alternate) : 0);
  set(config, "iterations", options->iterations ? string(options->iterations) : 0);
  set(config, "command", words_of(options->command));
  for (size_t i = 0; i < 2; i++)
    if (!json_object_object_get_ex(config, filters[i], &filter))
      set(config, filters[i], json_object_new_array());
}

void metadata_start(const struct options *options, const struct plan *plan,
                    const struct objects *objects, enum level level,
                    const struct handlers *handlers, const struct counters *counters,
                    const struct scheduler *scheduler, json_object *evicted) {
  struct utsname name;
  uname(&name);
  json_object *start = plan->start, *system = section(start, "uname"), *redirection = 0;
  set_target(start, options, objects);
  set_pid_namespace(start);
  set_plan(start, level);
  set_config(start, options, level);
  counters_say(counters, start);
  if (scheduler)
    set(start, "scheduler", scheduler_json(scheduler));
  if (evicted)
    set(start, "evicted", evicted);
  set(start, "loader", string(options->by_bcc ? "bcc" : "libbpf"));
  set(start, "recorder", string("profinfer-recorder " PROFINFER_VERSION));
  const struct features *features = &handlers->features;
  set(start, "transport", string(features->transport == TRANSPORT_BY_PERF ? "perf" : "ring"));
  set(start, "attach", string(features->multi ? "uprobe_multi" : "perf_event"));
  set(start, "attach_reason", string(features->why_no_link));
  set(start, "boot_clock", json_object_new_boolean(features->boot_clock));
  if (!json_object_object_get_ex(start, "redirection", &redirection))
    set(start, "redirection", string("stubs are not looked for by this recorder"));
  set(system, "sysname", string(name.sysname));
  set(system, "version", string(name.version));
  set(system, "release", string(name.release));
  set(system, "machine", string(name.machine));
  set(start, "host", string(name.nodename));
  set(start, "boot_id", boot_id());
  set(start, "cpu_model", string(cpu_model(name.machine)));
  set(start, "cpus", number(handlers->cpus));
  set(start, "page_size", number(sysconf(_SC_PAGESIZE)));
  capture_text(FRAME_START, boot_ns(),
               json_object_to_json_string_ext(start, JSON_C_TO_STRING_PLAIN));
}

/* Handlers that make one record of this kind per run. */
static const struct {
  const char *handler;
  enum record_kind kind;
} record_of[] = {{"on_operator", KIND_OPERATOR},
                 {"on_fused", KIND_FUSED},
                 {"on_barrier", KIND_BARRIER},
                 {"on_ubatch", KIND_UBATCH_BEGIN},
                 {"on_ubatch_return", KIND_UBATCH_END}};

/* Runs that were timed and their time in ns. */
static void set_timed(json_object *said, int program) {
  struct program_stats stats = programs_stats(program);
  set(said, "timed_runs", number(stats.runs));
  set(said, "timed_ns", number(stats.run_ns));
}

/* Of a handler; with all its runs while recording was on, where each makes one record. What stubs
 * have recorded is not among them. */
static json_object *handler(const struct handler_program *of, const struct drain *drain) {
  json_object *said = json_object_new_object();
  set(said, "handler", string(of->handler));
  set(said, "runs", 0);
  for (size_t i = 0; !of->is_empty && i < sizeof(record_of) / sizeof(*record_of); i++)
    if (!strcmp(record_of[i].handler, of->handler)) {
      unsigned kind = record_of[i].kind;
      uint64_t all = drain->drained[kind] + drain_lost_of(drain, kind);
      set(said, "runs", number(all - drain_by_stubs(drain, kind)));
    }
  set_timed(said, of->program);
  return said;
}

/* Of stubs that have recorded in its place: what that takes has not been timed. */
static json_object *stubs(const char *handler, uint64_t records) {
  json_object *said = json_object_new_object();
  set(said, "handler", string(handler));
  set(said, "via", string("recording"));
  set(said, "runs", number(records));
  set(said, "timed_runs", number(0));
  set(said, "timed_ns", number(0));
  return said;
}

static json_object *scheduler_totals(const struct scheduler *scheduler) {
  json_object *said = json_object_new_object();
  set(said, "drained", number(scheduler_records(scheduler)));
  set(said, "lost", number(scheduler_lost(scheduler)));
  return said;
}

/* Whether stubs have recorded in the place of a handler. */
static bool is_by_stubs(const struct plan *plan, const char *handler) {
  bool is_found = false;
  for (size_t i = 0; i < plan->probe_count; i++)
    is_found |= plan->probes[i].by_stub && !strcmp(plan->probes[i].handler, handler);
  return is_found;
}

void metadata_end(const struct metadata_totals *totals) {
  const struct drain *drain = totals->drain;
  const struct uprobes *uprobes = totals->uprobes;
  json_object *end = json_object_new_object(), *handlers = json_object_new_array(),
              *events = json_object_new_array();
  for (size_t i = 0; i < uprobes->handler_count; i++)
    json_object_array_add(handlers, handler(&uprobes->handlers[i], drain));
  for (size_t i = 0; i < sizeof(record_of) / sizeof(*record_of); i++)
    if (is_by_stubs(drain->objects->plan, record_of[i].handler))
      json_object_array_add(handlers,
                            stubs(record_of[i].handler, drain_by_stubs(drain, record_of[i].kind)));
  if (totals->scheduler)
    scheduler_event_programs(totals->scheduler, events);
  memory_event_programs(totals->programs_of_memory, drain->handlers->programs, events);
  set(end, "reason", string(totals->reason));
  set(end, "notes", json_object_get(totals->notes));
  if (totals->silent)
    set(end, "silent", string(totals->silent));
  if (totals->turns)
    set(end, "turns", json_object_get(totals->turns));
  set(end, "seconds", json_object_new_double(totals->seconds));
  set(end, "handlers", handlers);
  set(end, "event_programs", events);
  set(end, "recorder_cpu_s", json_object_new_double(totals->cpu_seconds));
  double waited = run_delay_seconds(&drain->delay);
  set(end, "threads_waited_s", waited < 0 ? 0 : json_object_new_double(waited));
  set(end, "memory", totals->memory ? memory_json(totals->memory) : 0);
  set(end, "stub_rings", stub_rings_json(drain->stubs));
  set(end, "drained", number(drain->records));
  set(end, "lost", number(drain_lost(drain)));
  set(end, "scheduler", totals->scheduler ? scheduler_totals(totals->scheduler) : 0);
  set(end, "command_status", totals->command_status);
  if (totals->hit_cost)
    set(end, "hit_cost", totals->hit_cost);
  capture_text(FRAME_END, boot_ns(), json_object_to_json_string_ext(end, JSON_C_TO_STRING_PLAIN));
  json_object_put(end);
}
