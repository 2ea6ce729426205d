/* SPDX-License-Identifier: Apache-2.0 */
/* One recording: find the target's files, load the handlers, attach, drain until the end. */
#include "capture.h"
#include "drain.h"
#include "failure.h"
#include "metadata.h"
#include "options.h"
#include "uprobes.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define CLOCK_EVERY_NS 10000000000ull
/* A ring is looked at so many times between drains, and drained early when as full as this. */
#define LOOKS 8
#define FULL 0.2
/* Counting what handlers cost costs more than a handler: it is on until there are so many records,
 * then in one interval of so many. */
#define ENOUGH_RECORDS 20000
#define COUNT_EVERY 8

static volatile sig_atomic_t received; /* the signal that ends the recording */

static void on_signal(int number) { received = number; }

static void catch_signals(void) {
  static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction action = {.sa_handler = on_signal};
  for (size_t i = 0; i < sizeof(ending) / sizeof(*ending); i++)
    sigaction(ending[i], &action, 0);
  /* A file that may not grow is an error of write(), and nobody has to read what we say. */
  action.sa_handler = SIG_IGN;
  sigaction(SIGXFSZ, &action, 0);
  sigaction(SIGPIPE, &action, 0);
}

/* CAP_BPF and CAP_PERFMON are not enough: current kernels want CAP_SYS_ADMIN for uprobes by perf
 * event, and so does what the target has mapped to be opened. */
static void check_privileges(void) {
  unsigned long long mask = ~0ull;
  char line[128];
  FILE *file = fopen("/proc/self/status", "re");
  if (!file)
    fail(EXIT_KERNEL, "mount /proc", "cannot read /proc/self/status");
  while (fgets(line, sizeof(line), file) && sscanf(line, "CapEff: %llx", &mask) != 1)
    ;
  fclose(file);
  bool lacks_admin = ~mask & 1ull << 21, lacks_ptrace = ~mask & 1ull << 19;
  if (lacks_admin || lacks_ptrace)
    fail(EXIT_PRIVILEGE, "run it as root", "recording needs %s%s%s, which this process lacks",
         lacks_admin ? "CAP_SYS_ADMIN" : "", lacks_admin && lacks_ptrace ? ", " : "",
         lacks_ptrace ? "CAP_SYS_PTRACE" : "");
}

static void check_machine(const struct plan *plan) {
  struct utsname name;
  uname(&name);
  if (strcmp(plan->machine, name.machine))
    fail(EXIT_PROBES, "make the plan from the files of this machine",
         "%s is a plan for %s; this machine is %s", plan->path, plan->machine, name.machine);
}

static enum level wanted_level(const struct options *options, const struct plan *plan) {
  enum level level = options->level ? level_named(options->level) : plan->level;
  if (level > plan->level)
    fail(EXIT_PLAN, text("make one with profinfer plan --level %s", options->level),
         "%s is a plan for level %s and has no probes for %s", plan->path, level_names[plan->level],
         options->level);
  return level;
}

/* Drains when the target leaves a CPU idle, as between graphs, rather than in its place: its
 * threads wait for each other, so that to stop one is to stop all. Enough is left to keep up. */
static void give_way(void) {
  struct sched_param none = {0};
  if (sched_setscheduler(0, SCHED_BATCH, &none) || setpriority(PRIO_PROCESS, 0, 10))
    warn("cannot lower the recorder's own priority: %s", strerror(errno));
}

/* Ends with the process; -1 where the kernel cannot count. */
static void count_runs(const struct drain *drain, uint64_t ticks) {
  static int fd = -1;
  bool wanted = drain->records < ENOUGH_RECORDS || ticks % COUNT_EVERY == 0;
  if (wanted && fd < 0)
    fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
  if (!wanted && fd >= 0) {
    close(fd);
    fd = -1;
  }
}

static double clock_s(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec + now.tv_nsec / 1e9;
}

/* Waits so long, or less when the target ends or a signal comes. */
static void wait_for(const struct target *target, double seconds) {
  struct pollfd ended = {target->pidfd, POLLIN, 0}; /* -1 is passed over */
  poll(&ended, 1, seconds * 1e3 < 1 ? 1 : seconds * 1e3);
}

static const char *why_over(const struct options *options, const struct target *target,
                            double seconds) {
  if (target_has_ended(target))
    return "the target ended";
  if (received)
    return text("SIG%s received", sigabbrev_np(received));
  if (options->duration && seconds >= options->duration)
    return "the duration is over";
  return 0;
}

/* Drains until something ends the recording; what that was. */
static const char *record(const struct options *options, const struct target *target,
                          struct drain *drain, double began) {
  uint64_t next_clock = boot_ns() + CLOCK_EVERY_NS, ticks = 0;
  double next_drain = began + options->poll;
  for (;;) {
    wait_for(target, options->poll / LOOKS);
    double now = clock_s(CLOCK_MONOTONIC);
    const char *over = why_over(options, target, now - began);
    if (!over && now < next_drain && drain->rings.fill() < FULL)
      continue;
    next_drain = now + options->poll;
    drain_take(drain);
    if (over)
      return over;
    count_runs(drain, ++ticks);
    if (boot_ns() >= next_clock) {
      capture_clocks();
      next_clock += CLOCK_EVERY_NS;
    }
  }
}

static void report(const struct options *options, const struct drain *drain, const char *reason,
                   double seconds) {
  fprintf(stderr, "%s: %.1f MB, %llu records in %.1f s, %llu lost (%s)\n", options->output,
          capture_size() / 1e6, (unsigned long long)drain->records, seconds,
          (unsigned long long)drain_lost(drain), reason);
  if (drain_lost(drain)) {
    warn("records were lost: the rings were full");
    fputs("hint: a larger --ring-size, a shorter --poll, or a lower --level loses fewer\n", stderr);
  }
}

int main(int argc, char **argv) {
  struct options options = options_parse(argc, argv);
  catch_signals();
  struct plan plan = plan_read(options.plan);
  enum level level = wanted_level(&options, &plan);
  check_machine(&plan);
  check_privileges();
  struct target target = target_open(options.pid);
  struct objects objects = objects_find(&plan, &target, level);
  capture_open(options.output, options.force);
  bool multi = uprobes_have_multi();
  struct program_options how = {
      options.transport,           options.object, level, options.ring_size,
      options.structure_ring_size, multi};
  struct programs programs = programs_load(&how, &plan);
  struct rings rings = programs_rings(&programs, &how);
  metadata_start(&plan, &objects, &options, level, programs.cpus, multi);
  capture_clocks();
  struct drain drain = drain_begin(&programs, &objects, rings);
  programs_activate(&programs, true);
  give_way();
  count_runs(&drain, 0);
  struct uprobes uprobes = uprobes_attach(&programs, &objects, level, multi);
  malloc_trim(0); /* loading took some memory that recording does not */
  fprintf(stderr, "recording process %d (%s), %zu probes by %s, level %s: Ctrl-C ends it\n",
          target.pid, drain.target_name, uprobes.count,
          multi ? "uprobe_multi links" : "perf events", level_names[level]);
  double began = clock_s(CLOCK_MONOTONIC), cpu = clock_s(CLOCK_PROCESS_CPUTIME_ID);
  const char *reason = record(&options, &target, &drain, began);
  programs_activate(&programs, false);
  uprobes_detach(&uprobes);
  usleep(5000); /* a handler that had begun ends meanwhile */
  drain_take(&drain);
  capture_clocks();
  double seconds = clock_s(CLOCK_MONOTONIC) - began;
  metadata_end(&plan, &drain, level, reason, seconds, clock_s(CLOCK_PROCESS_CPUTIME_ID) - cpu);
  capture_close();
  report(&options, &drain, reason, seconds);
  return 0;
}
