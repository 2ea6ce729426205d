/* SPDX-License-Identifier: Apache-2.0 */
#include "hit_cost.h"
#include "failure.h"
#include "hit_sites.h"
#include "hit_stub.h"
#include "programs.h"
#include "uprobe.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALLS 1000
#define LOOPS 5
#define WARM 100

/* ns per call, of the fastest loop: whatever else the machine does only adds to it. */
static double least(void (*function)(void)) {
  uint64_t fastest = UINT64_MAX;
  for (int i = 0; i < LOOPS; i++) {
    uint64_t took = hit_loop(function, CALLS);
    if (took < fastest)
      fastest = took;
  }
  return (double)fastest / CALLS;
}

/* ns that a stub takes for its record. */
static json_object *stub_cost(void) {
  double took[] = {0, 0};
  for (int i = 0; i < 2 * LOOPS; i++) {
    hit_stub_switch(i % 2);
    double ns = (double)hit_loop(hit_stub, CALLS) / CALLS;
    took[i % 2] = i < 2 || ns < took[i % 2] ? ns : took[i % 2];
  }
  return json_object_new_double(took[1] > took[0] ? took[1] - took[0] : 0);
}

/* The probe's descriptor; -1 where the kernel takes none. Like every descriptor here it is closed
 * at the end of this process, whatever ends it, and the probe is gone with it. */
static int attach(int program, void (*function)(void), bool by_link) {
  const char *path = "/proc/self/exe";
  uint64_t offset = hit_offset(function);
  int fd = -1;
  errno = 0;
  if (offset && by_link)
    fd = uprobe_link(program, path, &offset, 1, getpid(), false);
  else if (offset)
    uprobe_events(program, path, &offset, 1, getpid(), false, &fd);
  if (fd < 0 && (errno == EACCES || errno == EPERM))
    fail(EXIT_PRIVILEGE, "run it as root", "not allowed to attach the self-test's probes: %s",
         strerror(errno));
  return fd;
}

/* By the kernel's own count, which two readings of the clock are most of. */
static double empty_handler_ns(int program) {
  int stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
  if (stats < 0)
    fail(EXIT_KERNEL, "", "this kernel does not count the runs of BPF programs: %s",
         strerror(errno));
  struct program_stats before = programs_stats(program);
  hit_loop(hit_stepped, CALLS);
  struct program_stats after = programs_stats(program);
  close(stats);
  uint64_t runs = after.runs - before.runs;
  return (double)(after.run_ns - before.run_ns) / (runs ? runs : 1);
}

json_object *hit_costs(bool by_link) {
  json_object *costs = json_object_new_object(), *sites = json_object_new_object();
  int program = uprobe_nothing(by_link);
  if (program < 0)
    fail(EXIT_KERNEL, "", "cannot load a BPF program: %s", strerror(errno));
  int *fds = allocate(hit_site_count, sizeof(*fds));
  size_t count = 0;
  for (size_t i = 0; i < hit_site_count; i++) {
    const struct hit_site *site = &hit_sites[i];
    double bare = least(site->function);
    int fd = attach(program, site->function, by_link);
    json_object *cost = 0;
    if (fd >= 0) {
      fds[count++] = fd;
      hit_loop(site->function, WARM); /* kernels rewrite a NOP after its first hits */
      double more = least(site->function) - bare;
      cost = json_object_new_double(more > 0 ? more : 0);
    }
    json_object_object_add(sites, site->kind, cost);
  }
  if (!count)
    fail(EXIT_KERNEL, "", "this kernel took none of the self-test's probes");
  if (hit_stub)
    json_object_object_add(sites, "recording", stub_cost());
  json_object_object_add(costs, "sites", sites);
  json_object_object_add(costs, "empty_handler_ns",
                         json_object_new_double(empty_handler_ns(program)));
  uprobe_close(fds, count);
  close(program);
  free(fds);
  return costs;
}
