/* SPDX-License-Identifier: Apache-2.0 */
/* Loading the scheduler's programs, with what the kernel tells of its types. */
#include "../parameters.h"
#include "failure.h"
#include "handlers.h"
#include "kernel_types.h"
#include "pid_namespace.h"
#include "scheduler.h"
#include "tracepoints.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Bytes of a record of sched_blocked_reason that the program reads (bpf/scheduler.h). */
#define REASON_MOST 64

/* How many are remembered, in a PID namespace of its own. */
#define ENDED_THREADS 4096
#define NAMED_STRANGERS 16384

/* Where the number of a system call stands in the registers that a task entered the kernel with:
 * the kernel's own affair, so that a try must show whether it is so. */
#if defined(__x86_64__)
#define CALL_OFFSET (15 * 8)
#elif defined(__aarch64__)
#define CALL_OFFSET (35 * 8)
#else
#define CALL_OFFSET (-1)
#endif

static int call_offset(const struct features *features) {
  return features->task_registers ? CALL_OFFSET : -1;
}

/* Where the fields stand in the record of the tracepoint of reasons; whether they are told. It
 * tells of a thread by the machine's number only. */
static bool find_reasons(int *pid, int *caller, int *io_wait) {
  const char *event = scheduler_events[SCHEDULER_REASON].tracepoint;
  *pid = *caller = *io_wait = -1;
  if (!pids_are_the_machines() || tracepoint_id(event) < 0)
    return false;
  *pid = tracepoint_field(event, "pid", 4);
  *caller = tracepoint_field(event, "caller", 8);
  *io_wait = tracepoint_field(event, "io_wait", 1);
  bool is_readable = *pid >= 0 && *caller >= 0 && *io_wait >= 0 && *pid + 4 <= REASON_MOST &&
                     *caller + 8 <= REASON_MOST && *io_wait + 1 <= REASON_MOST;
  if (!is_readable)
    *pid = *caller = *io_wait = -1;
  return is_readable;
}

static void set_parameters(struct source *source, const struct scheduler *scheduler,
                           const struct features *features, unsigned shift) {
  const struct kernel_types *types = kernel_types();
  source_parameter(source, "TASK_PID", types->task_pid);
  source_parameter(source, "TASK_PRIO", types->task_prio);
  source_parameter(source, "TASK_COMM", types->task_comm);
  source_parameter(source, "TASK_STATE", types->task_state);
  source_parameter(source, "TASK_EXIT_STATE", types->task_exit_state);
  source_parameter(source, "TASK_CPU", types->task_cpu);
  source_parameter(source, "TASK_TGID", types->task_tgid);
  source_parameter(source, "TASK_THROTTLED", types->task_throttled);
  source_parameter(source, "TASK_QUEUE", types->task_queue);
  source_parameter(source, "QUEUE_THROTTLES", types->queue_throttles);
  source_parameter(source, "QUEUE_THROTTLED_TIME", types->queue_throttled_time);
  source_parameter(source, "QUEUE_CPU", types->queue_cpu);
  source_parameter(source, "CPU_CLOCK", types->cpu_clock);
  source_parameter(source, "SWITCH_TELLS_STATE", types->switch_tells_state);
  source_parameter(source, "CALL_OFFSET", call_offset(features));
  source_parameter(source, "TARGET_ONLY", !scheduler->is_all);
  source_parameter(source, "RING_SHIFT", shift);
  source_parameter(source, "BOOT_CLOCK", features->boot_clock);
  pids_parameters(source);
}

/* Loads the programs; where `why` is given, 0 and the reason in it when they cannot be. */
static struct programs *load(struct scheduler *scheduler, const struct features *features,
                             size_t ring_size, unsigned cpus, char **why) {
  struct source source = {
      .name = "scheduler",
      .has_transport = true,
      .by_perf = features->transport == TRANSPORT_BY_PERF,
  };
  unsigned shift = 63 - __builtin_clzll(ring_size / sizeof(struct record));
  int pid, caller, io_wait;
  scheduler->names_reasons = find_reasons(&pid, &caller, &io_wait);
  source_parameter(&source, "REASON_PID", pid);
  source_parameter(&source, "REASON_CALLER", caller);
  source_parameter(&source, "REASON_IO_WAIT", io_wait);
  set_parameters(&source, scheduler, features, shift);
  for (int i = 0; i < SCHEDULER_PROGRAMS; i++)
    if (i != SCHEDULER_REASON || scheduler->names_reasons)
      source_program(&source, scheduler_events[i].program,
                     scheduler_events[i].is_raw ? AT_RAW_TRACEPOINT : AT_TRACEPOINT);
  const char *records = source.by_perf ? "sched_events" : "sched_slots";
  source_size(&source, records, source.by_perf ? cpus : (size_t)cpus << shift);
  source_size(&source, "sched_heads", cpus);
  source_size(&source, "sched_losses", cpus * SCHEDULER_KINDS);
  source_size(&source, "ended_threads", pids_are_the_machines() ? 1 : ENDED_THREADS);
  source_size(&source, "named_strangers", pids_are_the_machines() ? 1 : NAMED_STRANGERS);
  const char *const maps[] = {records,         "sched_heads",    "sched_losses",
                              "sched_control", "target_threads", "named_strangers"};
  for (size_t i = 0; i < sizeof(maps) / sizeof(*maps); i++)
    source_map(&source, maps[i]);
  return programs_load(&source, why);
}

/* The elements of a map. They are read so, not by system call: while the kernel answers one it runs
 * no program at a tracepoint on that CPU. */
static void *map_elements(const struct scheduler *scheduler, const char *name, size_t size,
                          int protection) {
  size_t page = sysconf(_SC_PAGESIZE);
  void *start = mmap(0, (size + page - 1) & ~(page - 1), protection, MAP_SHARED,
                     programs_map(scheduler->programs, name), 0);
  if (start == MAP_FAILED)
    fail(EXIT_KERNEL, "", "cannot map what the scheduler's programs count: %s", strerror(errno));
  return start;
}

static struct rings map_rings(const struct scheduler *scheduler, const struct features *features,
                              size_t ring_size, unsigned cpus) {
  int heads = programs_map(scheduler->programs, "sched_heads");
  if (features->transport == TRANSPORT_BY_RING)
    return ring_transport(heads, programs_map(scheduler->programs, "sched_slots"), NO_WIDE, cpus,
                          ring_size, 0);
  return perf_transport(heads, programs_map(scheduler->programs, "sched_events"), NO_WIDE, cpus,
                        ring_size, 0);
}

struct scheduler *scheduler_try(bool is_all, const struct features *features, size_t ring_size,
                                pid_t target, char **why) {
  const char *problem = *pids_problem() ? pids_problem() : kernel_types()->problem;
  if (*problem && !why)
    fail(EXIT_KERNEL, "the kernel needs CONFIG_DEBUG_INFO_BTF", "%s", problem);
  if (*problem) {
    *why = text("%s", problem);
    return 0;
  }
  struct scheduler *scheduler = allocate(1, sizeof(*scheduler));
  unsigned cpus = handlers_cpus();
  scheduler->is_all = is_all;
  scheduler->has_boot_clock = features->boot_clock;
  scheduler->target = target;
  scheduler->programs = load(scheduler, features, ring_size, cpus, why);
  if (!scheduler->programs) {
    free(scheduler);
    return 0;
  }
  size_t losses = (size_t)cpus * SCHEDULER_KINDS * sizeof(struct loss);
  scheduler->control =
      map_elements(scheduler, "sched_control", sizeof(*scheduler->control), PROT_READ | PROT_WRITE);
  scheduler->lost = map_elements(scheduler, "sched_losses", losses, PROT_READ);
  scheduler->rings = map_rings(scheduler, features, ring_size, cpus);
  for (int i = 0; i < SCHEDULER_PROGRAMS; i++) {
    bool is_there = i != SCHEDULER_REASON || scheduler->names_reasons;
    scheduler->events[i].attached = -1;
    scheduler->events[i].program =
        is_there ? programs_find(scheduler->programs, scheduler_events[i].program) : -1;
  }
  scheduler->names_calls = call_offset(features) >= 0 && scheduler_shows_calls(scheduler);
  return scheduler;
}

struct scheduler *scheduler_load(const char *mode, const struct features *features,
                                 size_t ring_size, pid_t target, json_object *notes) {
  char *why = 0;
  if (!strcmp(mode, "off"))
    return 0;
  bool is_all = strcmp(mode, "target") && strcmp(mode, "auto-target");
  struct scheduler *scheduler =
      scheduler_try(is_all, features, ring_size, target, strncmp(mode, "auto", 4) ? 0 : &why);
  if (scheduler && !pids_are_the_machines())
    json_object_array_add(
        notes, json_object_new_string("threads outside this PID namespace bear the machine's "
                                      "numbers and 1,000,000,000"));
  if (scheduler)
    return scheduler;
  char *note = text("the scheduler was not recorded: %s", why);
  json_object_array_add(notes, json_object_new_string(note));
  free(note);
  free(why);
  return 0;
}
