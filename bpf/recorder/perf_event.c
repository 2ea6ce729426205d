/* SPDX-License-Identifier: Apache-2.0 */
#include "perf_event.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* CAP_BPF and CAP_PERFMON are not enough: current kernels want CAP_SYS_ADMIN for uprobes by perf
 * event, and /proc/PID/map_files, through which files are opened, wants it too. */
static const struct {
  const char *name;
  int number;
} capabilities[] = {{"CAP_SYS_ADMIN", 21}, {"CAP_SYS_PTRACE", 19}};

/* Those that this process lacks, in memory of its own. */
static char *missing_capabilities(void) {
  char line[128];
  uint64_t held = 0;
  FILE *status = fopen("/proc/self/status", "re");
  while (status && fgets(line, sizeof(line), status))
    if (sscanf(line, "CapEff: %" SCNx64, &held) == 1)
      break;
  if (status)
    fclose(status);
  char *missing = text("%s", "");
  for (size_t i = 0; i < sizeof(capabilities) / sizeof(*capabilities); i++)
    if (!(held >> capabilities[i].number & 1))
      missing = text("%s%s%s", missing, *missing ? ", " : "", capabilities[i].name);
  return *missing ? missing : text("CAP_SYS_ADMIN");
}

static void refused(int error, const char *what, struct problem *why) {
  if (error == EACCES || error == EPERM)
    problem_is(why, EXIT_PRIVILEGE, "run profinfer as root (sudo)",
               text("not allowed to attach %s: missing %s", what, missing_capabilities()));
  else
    problem_is(why, EXIT_PROBES,
               error == EINVAL ? "another tracer may hold a probe at the same place (see dmesg)"
                               : "",
               text("cannot attach %s: %s", what, strerror(error)));
}

int perf_event_open(uint32_t type, uint64_t config, int cpu, const char *what,
                    struct problem *why) {
  struct perf_event_attr attr = {
      .type = type, .size = sizeof(attr), .config = config, .sample_period = 1};
  int event = syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
  if (event < 0)
    refused(errno, what, why);
  return event;
}

void perf_event_run(int event, int program, const char *what) {
  if (ioctl(event, PERF_EVENT_IOC_SET_BPF, program) || ioctl(event, PERF_EVENT_IOC_ENABLE, 0))
    fail(EXIT_PROBES, "", "cannot attach %s: %s", what, strerror(errno));
}
