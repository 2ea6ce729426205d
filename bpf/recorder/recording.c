/* SPDX-License-Identifier: Apache-2.0 */
#include "recording.h"
#include "capture.h"
#include "failure.h"

#include <bpf/bpf.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define CLOCK_EVERY_NS 10000000000ull
/* A ring is looked at so many times between drains, and drained early when as full as this: then it
 * is looked at more often, until it fills more slowly. */
#define LOOKS 16
#define HURRIED_LOOKS 64
#define FULL 0.2
/* Counting what handlers cost costs more than a handler: it is on until there are so many records,
 * then in one interval of so many. */
#define ENOUGH_RECORDS 20000
#define COUNT_EVERY 8
#define NICE 10

static volatile sig_atomic_t received; /* the signal that ends the recording */

static void on_signal(int number) { received = number; }

void recording_catch_signals(void) {
  static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction action = {.sa_handler = on_signal};
  for (size_t i = 0; i < sizeof(ending) / sizeof(*ending); i++)
    sigaction(ending[i], &action, 0);
  /* A file that may not grow is an error of write(), and nobody has to read what we say. */
  action.sa_handler = SIG_IGN;
  sigaction(SIGXFSZ, &action, 0);
  sigaction(SIGPIPE, &action, 0);
}

/* Drains when the target leaves a CPU idle, as between graphs, rather than in its place: its
 * threads wait for each other, so that to stop one is to stop all. When a ring fills up meanwhile
 * it runs as it was started. Where neither may be chosen, nothing is lost but manners. */
static void give_way(bool is_hurried) {
  static int usual = -1, nice = 0;
  struct sched_param none = {0};
  if (usual < 0) {
    usual = sched_getscheduler(0);
    nice = getpriority(PRIO_PROCESS, 0);
  }
  if (usual != SCHED_OTHER)
    return; /* whoever chose another knows better */
  setpriority(PRIO_PROCESS, 0, is_hurried || nice > NICE ? nice : NICE);
  sched_setscheduler(0, is_hurried ? SCHED_OTHER : SCHED_BATCH, &none);
}

void recording_count_runs(const struct drain *drain, uint64_t ticks) {
  static int fd = -1; /* counting ends with it; stays -1 where the kernel cannot */
  bool wanted = drain->records < ENOUGH_RECORDS || ticks % COUNT_EVERY == 0;
  if (wanted && fd < 0)
    fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
  if (!wanted && fd >= 0) {
    close(fd);
    fd = -1;
  }
}

double clock_s(int clock) {
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

const char *recording_run(const struct options *options, const struct target *target,
                          struct drain *drain, double began) {
  uint64_t next_clock = boot_ns() + CLOCK_EVERY_NS, ticks = 0;
  double next_drain = began + options->poll;
  bool is_hurried = false;
  give_way(is_hurried);
  for (;;) {
    wait_for(target, options->poll / (is_hurried ? HURRIED_LOOKS : LOOKS));
    double now = clock_s(CLOCK_MONOTONIC);
    const char *over = why_over(options, target, now - began);
    bool is_filling = drain->rings.fill() >= FULL;
    if (!over && !is_filling && now < next_drain)
      continue;
    if (is_filling != is_hurried)
      give_way(is_hurried = is_filling);
    next_drain = now + options->poll;
    drain_take(drain);
    if (over)
      return over;
    recording_count_runs(drain, ++ticks);
    if (boot_ns() >= next_clock) {
      capture_clocks();
      next_clock += CLOCK_EVERY_NS;
    }
  }
}
