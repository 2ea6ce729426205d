/* SPDX-License-Identifier: Apache-2.0 */
#include "launch.h"
#include "checks.h"
#include "command.h"
#include "descriptors.h"
#include "engine_marks.h"
#include "failure.h"
#include "family.h"
#include "foreign_root.h"
#include "guard.h"
#include "handlers.h"
#include "known_files.h"
#include "loader_watch.h"
#include "pid_namespace.h"
#include "programs.h"
#include "tracepoints.h"
#include "wakeups.h"
#include "work_watch.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORK "sched/sched_process_fork"
#define EXEC "sched/sched_process_exec"
#define EXIT "sched/sched_process_exit"
#define START "schedule_tail" /* what a new task does first */

/* Somebody who does not stand still yet is looked at again: most stand within 0.1 ms, who does not
 * may take long. */
#define SOON_NS 50000
#define AGAIN_NS 1000000

#define PLACES 4

static struct {
  struct programs *programs; /* 0: not open */
  int held;                  /* the map */
  int at[PLACES];            /* fork, exec, exit, start; -1: not watched (any more) */
  int timer, events;         /* epoll: the timer, the wake-ups */
  pid_t kept;                /* the only one that is watched; 0: all are */
} launch = {.at = {-1, -1, -1, -1}, .timer = -1, .events = -1};

/* Who has been told of, and is in the map still: no more at a time than have room, with all that is
 * said of them, in a socket's queues of some 270 messages, lest both ends wait for each other. */
#define OUTSTANDING 64
static struct held told[HELD_MAX];
static size_t told_count;

struct source launch_source(bool looks_at_files) {
  struct source source = {.name = "launch"};
  source_program(&source, "on_objects_changed", AT_UPROBE);
  source_program(&source, "on_work", AT_UPROBE);
  source_program(&source, "on_graph", AT_UPROBE);
  if (pids_are_the_machines())
    source_program(&source, "on_fork", AT_TRACEPOINT);
  else
    source_program(&source, "on_fork_inside", AT_RAW_TRACEPOINT);
  source_program(&source, "on_exec", AT_TRACEPOINT);
  source_program(&source, "on_exit", AT_TRACEPOINT);
  source_program(&source, "on_start", AT_UPROBE);
  source_map(&source, "family");
  source_map(&source, "held");
  source_map(&source, "works");
  source_map(&source, "stops");
  source_parameter(&source, "CHILD_OFFSET", tracepoint_need_field(FORK, "child_pid", 4, 0));
  source_parameter(&source, "GROUP_DEAD_OFFSET", tracepoint_field(EXIT, "group_dead", 1));
  pids_parameters(&source);
  known_files_parameters(&source, looks_at_files);
  source_size(&source, "stops", handlers_cpus());
  return source;
}

static int watch_forks(void) {
  if (pids_are_the_machines())
    return tracepoint_attach(programs_find(launch.programs, "on_fork"), FORK);
  return raw_tracepoint_attach(programs_find(launch.programs, "on_fork_inside"),
                               strchr(FORK, '/') + 1);
}

static void load(void) {
  struct source source = launch_source(programs_by_libbpf());
  char *why = 0;
  /* A kernel that has all that looking at files takes may refuse it all the same. */
  launch.programs = programs_load(&source, source.function_count ? &why : 0);
  free(why);
  if (!launch.programs) {
    source = launch_source(false);
    launch.programs = programs_load(&source, 0);
  }
  if (source.function_count)
    known_files_use(programs_map(launch.programs, "known_files"));
}

void launch_open(void) {
  check_privileges();
  pids_check();
  descriptors_allow();
  load();
  launch.held = programs_map(launch.programs, "held");
  launch.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  launch.events = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event readable = {.events = EPOLLIN};
  if (launch.timer < 0 || epoll_ctl(launch.events, EPOLL_CTL_ADD, launch.timer, &readable))
    fail(EXIT_KERNEL, "", "cannot wait for stopped processes: %s", strerror(errno));
  wakeups_open(programs_map(launch.programs, "stops"), handlers_cpus(), launch.events);
  guard_start(launch.held);
  launch.at[0] = watch_forks();
  launch.at[1] = tracepoint_attach(programs_find(launch.programs, "on_exec"), EXEC);
  launch.at[2] = tracepoint_attach(programs_find(launch.programs, "on_exit"), EXIT);
  launch.at[3] = kprobe_attach(programs_find(launch.programs, "on_start"), START);
}

bool launch_sees_forks(void) { return launch.at[3] >= 0; }

static void enter_family(pid_t pid) {
  if (!family_set(programs_map(launch.programs, "family"), pid, MEMBER, true))
    fail(EXIT_KERNEL, "", "cannot watch process %d: %s", pid, strerror(errno));
}

/* Of one that has ended its PID may be a stranger's, which is no member. */
static void be_known(pid_t pid, uint32_t as) {
  family_set(programs_map(launch.programs, "family"), pid, as, false);
}

/* Watches its loader, and returns whether it may hold an engine. */
static bool look_at(pid_t pid) {
  struct target target;
  size_t count;
  if (!target_try(pid, &target))
    return true; /* it has ended: that is found out soon */
  struct mapping *mappings = target_try_mappings(&target, &count);
  loader_watch(programs_find(launch.programs, "on_objects_changed"), &target, mappings, count);
  foreign_root_tidy(&target);
  bool may_be_engine = engine_marks_any(&target, mappings, count);
  known_files_add(&target, mappings, count);
  mappings_free(mappings, count);
  target_close(&target);
  return may_be_engine;
}

void launch_follow(pid_t pid) {
  enter_family(pid);
  look_at(pid);
}

pid_t launch_start(const struct launch_request *request) {
  foreign_root_audit(request->audit);
  return command_start(request, enter_family);
}

int launch_fd(void) { return launch.events; }

/* ---- Who is stopped */

static bool was_told(const struct held *held) {
  for (size_t i = 0; i < told_count; i++)
    if (told[i].pid == held->pid && told[i].since == held->since)
      return true;
  return false;
}

/* Those that are told of and were stopped later, or let go by somebody else, are told of anew. */
static void forget_told(const struct held *list, size_t count) {
  size_t kept = 0;
  for (size_t i = 0; i < told_count; i++)
    for (size_t j = 0; j < count; j++)
      if (told[i].pid == list[j].pid && told[i].since == list[j].since)
        told[kept++] = told[i];
  told_count = kept;
}

static void look_again(uint64_t after) {
  after = after < SOON_NS ? SOON_NS : after > AGAIN_NS ? AGAIN_NS : after;
  struct itimerspec soon = {.it_value.tv_nsec = after};
  timerfd_settime(launch.timer, 0, &soon, 0);
}

/* Lets those go whom nobody wants, and returns whether somebody else is to be told of. */
static bool is_to_be_told(const struct held *held) {
  switch (held_look(held)) {
  case HELD_GONE:
    held_delete(launch.held, held);
    return false;
  case HELD_MOVING:
    look_again((monotonic_ns() - held->since) / 4);
    return false;
  case HELD_STILL:
    break;
  }
  if (launch.kept && held->pid != launch.kept) {
    guard_let_go(launch.held, held);
    return false;
  }
  return !was_told(held);
}

size_t launch_take(pid_t *pids, size_t room) {
  static struct held list[HELD_MAX];
  uint64_t times;
  ssize_t unused = read(launch.timer, &times, sizeof(times));
  (void)unused;
  guard_check(launch.held);
  size_t count = held_list(launch.held, list), taken = 0;
  forget_told(list, count);
  for (size_t i = 0; i < count; i++) {
    if (!is_to_be_told(&list[i]))
      continue;
    if (taken == room || told_count == OUTSTANDING) {
      look_again(AGAIN_NS);
      break;
    }
    /* Of one that was recorded it is told that it is another program now, whatever that holds. */
    if (!look_at(list[i].pid) && !(list[i].since & SETTLED)) {
      if (list[i].since & AFTER_EXEC)
        be_known(list[i].pid, MEMBER | UNTOLD);
      guard_let_go(launch.held, &list[i]);
      continue;
    }
    told[told_count++] = list[i];
    pids[taken++] = list[i].pid;
  }
  return taken;
}

void launch_go(pid_t pid) {
  struct held held;
  if (launch.programs && held_find(launch.held, pid, &held))
    guard_let_go(launch.held, &held);
}

unsigned launch_why(pid_t pid) {
  struct held held;
  return held_find(launch.held, pid, &held) ? held.since & WHY : 0;
}

bool launch_work(pid_t pid, struct work *work) {
  int works = programs_map(launch.programs, "works");
  return launch_why(pid) & AT_WORK && !bpf_map_lookup_elem(works, &(uint32_t){pid}, work);
}

void launch_watch_work(pid_t pid, bool everywhere, int file, const uint64_t *offsets,
                       size_t count) {
  if (!launch.programs)
    return;
  be_known(pid, MEMBER | HOLDER | WAITED);
  work_watch(programs_find(launch.programs, "on_work"), everywhere ? 0 : pid, file, offsets, count);
}

/* ---- Its end */

static void close_one(int *fd) {
  if (*fd >= 0)
    close(*fd);
  *fd = -1;
}

/* Nobody else is stopped from now on, and whoever is goes on. */
static void watch_only(pid_t pid) {
  static struct held list[HELD_MAX];
  launch.kept = pid;
  for (int i = 0; i < PLACES; i++)
    close_one(&launch.at[i]);
  family_leave_but(programs_map(launch.programs, "family"), pid);
  work_watch_end(0);
  size_t count = held_list(launch.held, list);
  for (size_t i = 0; i < count; i++)
    is_to_be_told(&list[i]);
}

/* A process that holds all that we hold until the pipe's end that is returned is closed. */
static int start_holder(void) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC))
    return -1;
  pid_t between = fork(); /* so that it is nobody's child */
  if (between == 0) {
    char byte;
    if (fork() == 0 && close(ends[1]) == 0)
      while (read(ends[0], &byte, 1) < 0)
        ;
    _exit(0);
  }
  if (between > 0)
    waitpid(between, 0, 0);
  close(ends[0]);
  return ends[1];
}

/* The kernel takes 0.1 s to take a probe away, while whoever closes it last waits: not us, for a
 * process is stopped that waits for us. */
void launch_keep(pid_t pid) {
  int holder = start_holder();
  watch_only(pid);
  close_one(&holder);
}

void launch_settle(pid_t pid) {
  if (!launch.programs)
    return;
  be_known(pid, MEMBER | HOLDER | SETTLED);
  int holder = start_holder();
  work_watch_end(pid);
  close_one(&holder);
}

void launch_close(void) {
  static struct held list[HELD_MAX];
  if (!launch.programs)
    return;
  loader_watch_end(launch.at, PLACES);
  for (int i = 0; i < PLACES; i++)
    launch.at[i] = -1;
  watch_only(-1); /* nobody has that PID */
  while (held_list(launch.held, list)) {
    usleep(AGAIN_NS / 1000);
    launch_take(0, 0);
  }
  guard_end();
  launch_leave();
}

void launch_leave(void) {
  if (!launch.programs)
    return;
  for (int i = 0; i < PLACES; i++)
    close_one(&launch.at[i]);
  close_one(&launch.timer);
  close_one(&launch.events);
  loader_watch_leave();
  work_watch_leave();
  wakeups_close();
  guard_leave();
  known_files_use(-1);
  programs_close(launch.programs);
  launch.programs = 0;
}
