/* SPDX-License-Identifier: Apache-2.0 */
#include "limits.h"
#include "report.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* More than the threads of an engine. */
enum { MORE_PROCESSES = 1024 };

/* Of the whole system: nobody has more. The limit is one of a user's, whoever started them. */
static unsigned long process_count;

static void count_processes(void) {
  FILE *file = fopen("/proc/loadavg", "re");
  if (!file || fscanf(file, "%*s %*s %*s %*u/%lu", &process_count) != 1)
    process_count = 0;
  if (file)
    fclose(file);
}

void limits_prepare(void) {
  count_processes();
  int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (file < 0)
    return;
  if (write(file, "1000", 4) < 0) {
    /* A system that refuses it has its own ideas of who goes first. */
  }
  close(file);
}

void limits_set(unsigned seconds) {
  const struct {
    int what;
    rlim_t value;
  } limits[] = {
      {RLIMIT_CPU, seconds + 2},
      {RLIMIT_AS, (rlim_t)16 << 30},
      {RLIMIT_CORE, 0},
      {RLIMIT_FSIZE, 1 << 20},
      {RLIMIT_NOFILE, 256},
      {RLIMIT_RTPRIO, 0},
      {RLIMIT_NICE, 0},
      {RLIMIT_MEMLOCK, 8 << 20},
      {RLIMIT_NPROC, process_count ? process_count + MORE_PROCESSES : RLIM_INFINITY},
  };
  for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)limits[i].what, &limit))
      report_failure("limits cannot be read");
    rlim_t value = limits[i].value < limit.rlim_max ? limits[i].value : limit.rlim_max;
    limit = (struct rlimit){value, value};
    if (setrlimit((__rlimit_resource_t)limits[i].what, &limit))
      report_failure("a limit was refused");
  }
}
