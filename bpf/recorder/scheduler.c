/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler.h"
#include "capture.h"
#include "failure.h"
#include "kernel_types.h"
#include "tracepoints.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

const struct scheduler_event scheduler_events[SCHEDULER_PROGRAMS] = {
    {"on_switch", "sched_switch", KIND_SWITCH, true},
    {"on_waking", "sched_waking", KIND_WAKING, true},
    {"on_newtask", "task_newtask", KIND_NEWTASK, true},
    {"on_rename", "task_rename", KIND_RENAME, true},
    {"on_exit", "sched_process_exit", KIND_EXIT, true},
    {"on_free", "sched_process_free", KIND_FREE, true},
    {"on_reason", "sched/sched_blocked_reason", KIND_REASON, false},
};

json_object *scheduler_json(const struct scheduler *scheduler) {
  json_object *said = json_object_new_object();
  json_object_object_add(said, "mode",
                         json_object_new_string(scheduler->is_all ? "system" : "target"));
  json_object_object_add(said, "system_calls", json_object_new_boolean(scheduler->names_calls));
  json_object_object_add(said, "blocked_reasons",
                         json_object_new_boolean(scheduler->names_reasons));
  const struct kernel_types *types = kernel_types();
  bool is_by_task = types->task_throttled >= 0, is_by_queue = types->queue_throttles >= 0;
  json_object_object_add(said, "throttling",
                         json_object_new_string(is_by_task    ? "task"
                                                : is_by_queue ? "queue"
                                                              : "none"));
  json_object_object_add(said, "throttled_time",
                         json_object_new_boolean(types->queue_throttled_time >= 0));
  return said;
}

static uint64_t boot_offset(void) {
  struct timespec monotonic;
  clock_gettime(CLOCK_MONOTONIC, &monotonic);
  return boot_ns() - (monotonic.tv_sec * 1000000000ull + monotonic.tv_nsec);
}

/* What is loaded finds itself on whenever it runs: it is switched on before it is attached, and off
 * when it is no longer. */
static void switch_on(struct scheduler *scheduler, pid_t target) {
  scheduler->control->target = target;
  scheduler->control->throttled = 0;
  scheduler->control->boot_offset = scheduler->has_boot_clock ? 0 : boot_offset();
  __atomic_store_n(&scheduler->control->active, 1, __ATOMIC_RELEASE);
}

static void attach(struct scheduler *scheduler, int i) {
  int program = scheduler->events[i].program;
  const struct scheduler_event *event = &scheduler_events[i];
  if (program < 0)
    return;
  scheduler->events[i].attached = event->is_raw ? raw_tracepoint_attach(program, event->tracepoint)
                                                : tracepoint_attach(program, event->tracepoint);
}

void scheduler_detach(struct scheduler *scheduler) {
  for (int i = 0; i < SCHEDULER_PROGRAMS; i++) {
    if (scheduler->events[i].attached >= 0)
      close(scheduler->events[i].attached);
    scheduler->events[i].attached = -1;
  }
  __atomic_store_n(&scheduler->control->active, 0, __ATOMIC_RELEASE);
}

/* ---- In which system call a thread is */

struct own_call {
  uint32_t tid;
  bool is_seen;
};

static void find_own_call(void *context, const struct record *records, size_t count) {
  struct own_call *own = context;
  const uint64_t mask = 1ull << SWITCH_HAS_CALL | 0xffffffff;
  for (size_t i = 0; i < count; i++)
    if (records[i].kind == KIND_SWITCH && records[i].tid == own->tid &&
        (records[i].b & mask) == (1ull << SWITCH_HAS_CALL | SYS_nanosleep))
      own->is_seen = true;
}

/* What the try has told of others nobody has written down. */
static void forget_named(const struct scheduler *scheduler) {
  int map = programs_map(scheduler->programs, "named_strangers");
  uint32_t tid;
  while (!bpf_map_get_next_key(map, 0, &tid) && !bpf_map_delete_elem(map, &tid))
    ;
}

bool scheduler_shows_calls(struct scheduler *scheduler) {
  struct own_call own = {.tid = syscall(SYS_gettid)};
  struct timespec moment = {0, 1000000};
  switch_on(scheduler, getpid());
  attach(scheduler, SCHEDULER_SWITCH);
  syscall(SYS_nanosleep, &moment, 0);
  scheduler_detach(scheduler);
  usleep(1000); /* a program that had begun ends meanwhile */
  for (unsigned cpu = 0; cpu < scheduler->rings.cpus; cpu++)
    rings_drain(&scheduler->rings, cpu, find_own_call, &own);
  forget_named(scheduler);
  return own.is_seen;
}

/* ---- The target's threads */

static size_t list_threads(pid_t pid, uint32_t **tids) {
  char path[32];
  size_t count = 0, room = 0;
  snprintf(path, sizeof(path), "/proc/%d/task", pid);
  DIR *list = opendir(path);
  *tids = 0;
  for (struct dirent *entry; list && (entry = readdir(list));) {
    uint32_t tid = strtoul(entry->d_name, 0, 10);
    if (!tid)
      continue;
    if (count == room)
      *tids = reallocarray(*tids, room = room ? 2 * room : 64, sizeof(**tids));
    if (!*tids)
      fail(EXIT_KERNEL, "", "out of memory");
    (*tids)[count++] = tid;
  }
  if (list)
    closedir(list);
  return count;
}

/* Those that there are. New ones are added by the programs, which run already. */
static void add_threads(const struct scheduler *scheduler) {
  int map = programs_map(scheduler->programs, "target_threads");
  uint32_t *before, *after, one = 1;
  size_t count = list_threads(scheduler->target, &before);
  for (size_t i = 0; i < count; i++)
    bpf_map_update_elem(map, &before[i], &one, BPF_ANY);
  struct set still = {0};
  size_t left = list_threads(scheduler->target, &after);
  for (size_t i = 0; i < left; i++)
    set_add(&still, after[i]);
  for (size_t i = 0; i < count; i++)
    if (set_add(&still, before[i]))
      /* Ended meanwhile: its number may come to mean another thread. */
      bpf_map_delete_elem(map, &before[i]);
  free(still.slots);
  free(before);
  free(after);
}

void scheduler_resume(struct scheduler *scheduler) {
  switch_on(scheduler, scheduler->target);
  for (int i = 0; i < SCHEDULER_PROGRAMS; i++)
    attach(scheduler, i);
  if (!scheduler->is_all)
    add_threads(scheduler);
}

void scheduler_attach(struct scheduler *scheduler) {
  scheduler_begin(scheduler);
  scheduler_resume(scheduler);
  scheduler_begun(scheduler, boot_ns());
}
