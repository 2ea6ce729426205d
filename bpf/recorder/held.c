/* SPDX-License-Identifier: Apache-2.0 */
#include "held.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_NS 2000000000ull
#define TICK_NS 10000000ull /* USER_HZ is 100 on every machine */

static uint64_t clock_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1000000000ull + now.tv_nsec;
}

uint64_t monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* ---- The map */

bool held_find(int map, pid_t pid, struct held *found) {
  found->pid = pid;
  return !bpf_map_lookup_elem(map, &(uint32_t){pid}, &found->since);
}

size_t held_list(int map, struct held list[HELD_MAX]) {
  size_t count = 0;
  uint32_t key, next, *at = 0;
  while (count < HELD_MAX && !bpf_map_get_next_key(map, at, &next)) {
    bool is_new = held_find(map, next, &list[count]);
    /* The kernel begins again where the last one has gone meanwhile. */
    for (size_t i = 0; i < count && is_new; i++)
      is_new = list[i].pid != list[count].pid;
    count += is_new;
    key = next;
    at = &key;
  }
  return count;
}

void held_delete(int map, const struct held *held) {
  bpf_map_delete_elem(map, &(uint32_t){held->pid});
}

/* ---- The process */

/* What stands behind the name, which may hold anything, in a file "stat"; "" when there is none. */
static const char *read_stat(const char *path, char text[1024]) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = fd < 0 ? -1 : read(fd, text, 1023);
  if (fd >= 0)
    close(fd);
  text[got > 0 ? got : 0] = 0;
  const char *name_end = strrchr(text, ')');
  return name_end && name_end[1] == ' ' ? name_end + 2 : "";
}

/* Whether it had begun before it was stopped. Its start is told in ticks since the machine's. */
static bool is_the_same(const struct held *held) {
  char path[64], text[1024];
  snprintf(path, sizeof(path), "/proc/%d/stat", held->pid);
  const char *field = read_stat(path, text);
  for (int i = 0; i < 19 && field; i++)
    if ((field = strchr(field, ' ')))
      field++;
  if (!field)
    return false;
  /* In this order: what passes between the two speaks for it. */
  uint64_t now = monotonic_ns(), asleep = clock_ns(CLOCK_BOOTTIME) - now;
  return strtoull(field, 0, 10) * TICK_NS <= held->since + asleep;
}

enum held_state held_look(const struct held *held) {
  char path[300], text[1024];
  if (!is_the_same(held))
    return HELD_GONE;
  snprintf(path, sizeof(path), "/proc/%d/task", held->pid);
  DIR *threads = opendir(path);
  bool has_any = false, is_moving = false;
  for (struct dirent *thread; threads && (thread = readdir(threads));) {
    if (*thread->d_name == '.')
      continue;
    snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", held->pid, thread->d_name);
    char state = *read_stat(path, text);
    bool has_ended = !state || state == 'Z' || state == 'X';
    has_any |= !has_ended;
    /* T, or t: stopped under the eyes of a debugger. */
    is_moving |= !has_ended && state != 'T' && state != 't';
  }
  if (threads)
    closedir(threads);
  if (!has_any)
    return HELD_GONE;
  return is_moving && monotonic_ns() < held->since + PATIENCE_NS ? HELD_MOVING : HELD_STILL;
}

void held_continue(const struct held *held) {
  int process = syscall(SYS_pidfd_open, held->pid, 0);
  if (process < 0)
    return;
  if (is_the_same(held))
    syscall(SYS_pidfd_send_signal, process, SIGCONT, 0, 0);
  close(process);
}
