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

/* Numbers of fields behind the name, from 0: the state. */
#define THREADS 17
#define START 19

static const char *field(const char *fields, int number) {
  for (; number && *fields; number--) {
    const char *space = strchr(fields, ' ');
    fields = space ? space + 1 : "";
  }
  return fields;
}

/* The stat of the process; "" when it had not begun before it was stopped, or has ended. Its start
 * is told in ticks since the machine's. */
static const char *stat_of(const struct held *held, char text[1024]) {
  char path[64];
  snprintf(path, sizeof(path), "/proc/%d/stat", held->pid);
  const char *fields = read_stat(path, text), *start = field(fields, START);
  /* In this order: what passes between the two speaks for it. */
  uint64_t now = monotonic_ns(), asleep = clock_ns(CLOCK_BOOTTIME) - now;
  return *start && strtoull(start, 0, 10) * TICK_NS <= held->since + asleep ? fields : "";
}

static bool has_ended(char state) { return !state || state == 'Z' || state == 'X'; }

/* T, or t: stopped under the eyes of a debugger. */
static bool stands(char state) { return state == 'T' || state == 't'; }

static enum held_state by_patience(const struct held *held, bool is_moving) {
  return is_moving && monotonic_ns() < held->since + PATIENCE_NS ? HELD_MOVING : HELD_STILL;
}

enum held_state held_look(const struct held *held) {
  char path[300], text[1024];
  const char *fields = stat_of(held, text);
  if (!*fields)
    return HELD_GONE;
  if (atoi(field(fields, THREADS)) == 1 && !has_ended(*fields))
    return by_patience(held, !stands(*fields));
  snprintf(path, sizeof(path), "/proc/%d/task", held->pid);
  DIR *threads = opendir(path);
  bool has_any = false, is_moving = false;
  for (struct dirent *thread; threads && (thread = readdir(threads));) {
    if (*thread->d_name == '.')
      continue;
    snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", held->pid, thread->d_name);
    char state = *read_stat(path, text);
    has_any |= !has_ended(state);
    is_moving |= !has_ended(state) && !stands(state);
  }
  if (threads)
    closedir(threads);
  return has_any ? by_patience(held, is_moving) : HELD_GONE;
}

void held_continue(const struct held *held) {
  char text[1024];
  int process = syscall(SYS_pidfd_open, held->pid, 0);
  if (process < 0)
    return;
  if (*stat_of(held, text))
    syscall(SYS_pidfd_send_signal, process, SIGCONT, 0, 0);
  close(process);
}
