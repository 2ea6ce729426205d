/* SPDX-License-Identifier: Apache-2.0 */
#include "hit_cost.h"
#include "failure.h"
#include "hit_pairs.h"
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
#define LOOPS 5 /* of a stub, the fastest: whatever else the machine does only adds to it */
#define WARM 100

static json_object *positive(double ns) { return json_object_new_double(ns > 0 ? ns : 0); }

/* ns that a stub takes for its record; in `off`, for nothing. */
static json_object *stub_cost(json_object **off) {
  double took[3]; /* off, on, and without a stub */
  for (int i = 0; i < 3 * LOOPS; i++) {
    hit_stub_switch(i % 3 == 1);
    double ns = (double)hit_loop(i % 3 == 2 ? hit_nothing : hit_stub, CALLS) / CALLS;
    took[i % 3] = i < 3 || ns < took[i % 3] ? ns : took[i % 3];
  }
  *off = positive(took[0] - took[2]);
  return positive(took[1] - took[0]);
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
static double empty_handler_ns(int program, void (*function)(void)) {
  int stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
  if (stats < 0)
    fail(EXIT_KERNEL, "", "this kernel does not count the runs of BPF programs: %s",
         strerror(errno));
  struct program_stats before = programs_stats(program);
  hits_among_work(function, CALLS);
  struct program_stats after = programs_stats(program);
  close(stats);
  uint64_t runs = after.runs - before.runs;
  return (double)(after.run_ns - before.run_ns) / (runs ? runs : 1);
}

static bool is_wanted(const char *kind, json_object *kinds) {
  size_t count = kinds ? json_object_array_length(kinds) : 0;
  for (size_t i = 0; i < count; i++) {
    const char *wanted = json_object_get_string(json_object_array_get_idx(kinds, i));
    if (wanted && !strcmp(kind, wanted))
      return true;
  }
  return !kinds;
}

json_object *hit_costs(bool by_link, json_object *kinds) {
  json_object *costs = json_object_new_object(), *sites = json_object_new_object(),
              *intervals = json_object_new_object();
  int program = uprobe_nothing(by_link);
  if (program < 0)
    fail(EXIT_KERNEL, "", "cannot load a BPF program: %s", strerror(errno));
  int *fds = allocate(hit_site_count, sizeof(*fds));
  size_t count = 0;
  bool is_settled = true;
  void (*probed)(void) = 0;
  for (size_t i = 0; i < hit_site_count; i++) {
    const struct hit_site *site = &hit_sites[i];
    if (!is_wanted(site->kind, kinds))
      continue;
    int fd = attach(program, site->function, by_link);
    json_object *cost = 0;
    if (fd >= 0) {
      fds[count++] = fd;
      probed = site->function;
      hit_loop(site->function, WARM); /* kernels rewrite a NOP after its first hits */
      struct hit_pairs found = hit_pairs(site->function);
      cost = positive(found.ns);
      json_object *interval = json_object_new_array();
      json_object_array_add(interval, positive(found.low));
      json_object_array_add(interval, positive(found.high));
      json_object_object_add(intervals, site->kind, interval);
      is_settled &= found.is_settled;
    }
    json_object_object_add(sites, site->kind, cost);
  }
  if (!count)
    fail(EXIT_KERNEL, "", "this kernel took none of the self-test's probes");
  json_object *off = 0;
  if (is_wanted("recording", kinds))
    json_object_object_add(sites, "recording", stub_cost(&off));
  json_object_object_add(costs, "stub_off_ns", off);
  json_object_object_add(costs, "sites", sites);
  json_object_object_add(costs, "intervals", intervals);
  json_object_object_add(costs, "settled", json_object_new_boolean(is_settled));
  json_object_object_add(costs, "empty_handler_ns",
                         json_object_new_double(empty_handler_ns(program, probed)));
  uprobe_close(fds, count);
  close(program);
  free(fds);
  return costs;
}
