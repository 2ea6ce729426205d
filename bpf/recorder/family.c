/* SPDX-License-Identifier: Apache-2.0 */
#include "family.h"
#include "held.h"

#include <bpf/bpf.h>
#include <stdio.h>
#include <string.h>

/* Who means to become another program has become it by then, as a rule. */
#define EARLY_NS 5000000
#define MOST 256

/* Whom it was too early to tell of. */
static struct born {
  pid_t pid;
  uint64_t since;
} waiting[MOST];
static size_t waiting_count;

bool family_set(int map, pid_t pid, uint32_t what, bool is_new) {
  return !bpf_map_update_elem(map, &(uint32_t){pid}, &what, is_new ? BPF_ANY : BPF_EXIST);
}

static bool is_process(pid_t pid) {
  char path[64], line[256];
  int group = 0;
  snprintf(path, sizeof(path), "/proc/%d/status", pid);
  FILE *status = fopen(path, "re");
  while (status && fgets(line, sizeof(line), status) && sscanf(line, "Tgid: %d", &group) != 1)
    ;
  if (status)
    fclose(status);
  return group == pid;
}

/* Since when somebody is known to have been born. */
static uint64_t since(pid_t pid, uint64_t now) {
  for (size_t i = 0; i < waiting_count; i++)
    if (waiting[i].pid == pid)
      return waiting[i].since;
  return now;
}

size_t family_born(int map, pid_t *pids, size_t room, bool *is_early) {
  struct born still[MOST];
  size_t taken = 0, kept = 0;
  uint64_t now = monotonic_ns();
  uint32_t next, what;
  /* From the start again whenever one was told of: it is changed. */
  for (uint32_t key, *at = 0; !bpf_map_get_next_key(map, at, &next); key = next, at = &key) {
    if (bpf_map_lookup_elem(map, &next, &what) || !(what & BORN))
      continue;
    uint64_t from = since(next, now);
    if (now - from < EARLY_NS && kept < MOST) {
      still[kept++] = (struct born){next, from};
    } else if (taken < room) {
      family_set(map, next, what & ~BORN, false);
      if (is_process(next))
        pids[taken++] = next;
    }
  }
  memcpy(waiting, still, kept * sizeof(*still));
  waiting_count = kept;
  *is_early = kept;
  return taken;
}
