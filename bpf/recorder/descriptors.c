/* SPDX-License-Identifier: Apache-2.0 */
#include "descriptors.h"
#include "failure.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

/* Seen: 63 with everything switched on and two CPUs, and as many again while programs are loaded.
 * Events and perf buffers take some for each CPU. */
#define LEAST 128
#define MOST 1024

static struct rlimit before;
static bool is_changed;

void descriptors_reserve(void) {
  int fd;
  do
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  while (fd >= 0 && fd <= STDERR_FILENO);
  close(fd);
}

/* So many, above the hard limit, too, where that may be; else as many as may be. */
static void allow(rlim_t wanted) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= wanted)
    return;
  if (!is_changed)
    before = limit;
  is_changed = true;
  rlim_t most = limit.rlim_max;
  limit.rlim_cur = wanted;
  if (limit.rlim_max < wanted)
    limit.rlim_max = wanted;
  if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
    return;
  limit.rlim_cur = limit.rlim_max = most;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void descriptors_allow(void) {
  struct rlimit limit;
  allow(MOST);
  if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < LEAST)
    fail(EXIT_KERNEL, text("raise the hard limit (ulimit -Hn), best to %d", MOST),
         "a recording needs at least %d files open at once, and this process may have %llu", LEAST,
         (unsigned long long)limit.rlim_max);
}

void descriptors_allow_more(size_t count) { allow(MOST + count); }

void descriptors_restore(void) {
  if (is_changed)
    setrlimit(RLIMIT_NOFILE, &before);
}
