/* SPDX-License-Identifier: Apache-2.0 */
#include "tasks.h"
#include "failure.h"
#include "target.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes of a file that are read, and characters of a name that are kept. */
#define READ_MOST 4096
#define NAME_MOST 256

/* ---- Text */

static FILE *open_text(char **text, size_t *length) {
  FILE *file = open_memstream(text, length);
  if (!file)
    fail(EXIT_KERNEL, "", "out of memory");
  return file;
}

/* Whatever bytes they are, as a string in JSON; at most so many characters. */
static void put_string(FILE *file, const char *bytes, size_t length, size_t most) {
  char *valid = utf8(bytes, length);
  putc('"', file);
  for (const unsigned char *c = (unsigned char *)valid; *c; c++) {
    bool is_first = (*c & 0xc0) != 0x80; /* of a character's bytes */
    if (is_first && !most--)
      break;
    if (*c == '"' || *c == '\\')
      fprintf(file, "\\%c", *c);
    else if (*c < 0x20)
      fprintf(file, "\\u%04x", *c);
    else
      putc(*c, file);
  }
  putc('"', file);
  free(valid);
}

/* ---- /proc */

/* A file below a folder, as far as there is room for it, with a NUL behind it; its length, -1 when
 * it cannot be read. */
static ssize_t read_file(int folder, const char *name, char *to) {
  ssize_t length = 0, got;
  int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  while ((got = read(fd, to + length, READ_MOST - length)) > 0)
    length += got;
  close(fd);
  if (got < 0)
    return -1;
  to[length] = 0;
  return length;
}

static size_t digits(const char *at) { return strspn(at, "0123456789"); }

size_t task_name_length(const char *name) {
  static const char worker[] = "kworker/";
  size_t length = strlen(name);
  while (length && name[length - 1] == '\n')
    length--;
  if (strncmp(name, worker, sizeof(worker) - 1))
    return length;
  const char *at = name + sizeof(worker) - 1;
  at += *at == 'u';
  size_t pool = digits(at);
  if (!pool || at[pool] != ':' || !digits(at + pool + 1))
    return length;
  at += pool + 1;
  at += digits(at);
  at += *at == 'H' || *at == 'I';
  return *at == '-' || *at == '+' ? (size_t)(at - name) : length;
}

/* The name of a thread, below the folder of threads; whether it lives. */
static bool read_name(int folder, const char *tid, char *to, size_t *length) {
  char path[32];
  snprintf(path, sizeof(path), "%s/comm", tid);
  if (read_file(folder, path, to) < 0)
    return false;
  *length = task_name_length(to);
  return true;
}

static int parent_of(int folder) {
  char stat[READ_MOST + 1];
  if (read_file(folder, "stat", stat) < 0)
    return -1;
  int parent;
  const char *rest = strrchr(stat, ')');
  return rest && sscanf(rest + 1, " %*s %d", &parent) == 1 ? parent : -1;
}

/* Separates the elements of a list. */
static void put_comma(FILE *file) {
  if (ftell(file) > 0)
    putc(',', file);
}

static void add_threads(struct tasks *tasks, int pid, int folder, task_fn *found, void *context) {
  char name[READ_MOST + 1];
  size_t length;
  DIR *list = fdopendir(folder);
  for (struct dirent *entry; list && (entry = readdir(list));) {
    if (!digits(entry->d_name) || !read_name(folder, entry->d_name, name, &length))
      continue;
    uint32_t tid = strtoul(entry->d_name, 0, 10);
    put_comma(tasks->threads);
    fprintf(tasks->threads, "[%u,%d,", tid, pid);
    put_string(tasks->threads, name, length, NAME_MOST);
    putc(']', tasks->threads);
    found(context, tid);
  }
  if (list)
    closedir(list);
  else
    close(folder);
}

/* A process with all its threads; nothing when it has ended. */
static void add_process(struct tasks *tasks, int pid, task_fn *found, void *context) {
  char path[32], program[READ_MOST + 1];
  snprintf(path, sizeof(path), "/proc/%d", pid);
  int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0)
    return;
  int parent = parent_of(folder);
  int threads = openat(folder, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  /* The program only: what else stands on a stranger's command line is not ours to tell. */
  bool is_there = parent >= 0 && threads >= 0 && read_file(folder, "cmdline", program) >= 0;
  size_t length = is_there ? strlen(program) : 0;
  bool has_program = length;
  snprintf(path, sizeof(path), "%d", pid);
  if (is_there && (has_program || read_name(threads, path, program, &length))) {
    put_comma(tasks->processes);
    fprintf(tasks->processes, "[%d,%d,", pid, parent);
    put_string(tasks->processes, program, length, NAME_MOST);
    fprintf(tasks->processes, ",%s]", has_program ? "false" : "true");
    add_threads(tasks, pid, threads, found, context);
    threads = -1;
  }
  if (threads >= 0)
    close(threads);
  close(folder);
}

/* ---- All or some of them */

struct tasks tasks_begin(void) {
  return (struct tasks){0};
}

static void open_texts(struct tasks *tasks) {
  if (tasks->processes)
    return;
  tasks->processes = open_text(&tasks->process_text, &tasks->process_length);
  tasks->threads = open_text(&tasks->thread_text, &tasks->thread_length);
}

void tasks_add_all(struct tasks *tasks, task_fn *found, void *context) {
  DIR *list = opendir("/proc");
  open_texts(tasks);
  for (struct dirent *entry; list && (entry = readdir(list));)
    if (digits(entry->d_name))
      add_process(tasks, atoi(entry->d_name), found, context);
  if (list)
    closedir(list);
}

void tasks_add(struct tasks *tasks, pid_t tid, task_fn *found, void *context) {
  char path[32], status[READ_MOST + 1];
  open_texts(tasks);
  snprintf(path, sizeof(path), "/proc/%d/status", tid);
  const char *of = read_file(AT_FDCWD, path, status) < 0 ? 0 : strstr(status, "\nTgid:");
  int pid = of ? atoi(of + 6) : 0;
  if (pid > 0 && set_add(&tasks->seen, pid))
    add_process(tasks, pid, found, context);
}

char *tasks_end(struct tasks *tasks, uint64_t since) {
  open_texts(tasks);
  if (fclose(tasks->processes) || fclose(tasks->threads))
    fail(EXIT_KERNEL, "", "out of memory");
  char *begin = since ? text("\"since\":%llu,", (unsigned long long)since) : text("%s", "");
  char *whole = text("{%s\"processes\":[%s],\"threads\":[%s]}", begin, tasks->process_text,
                     tasks->thread_text);
  free(begin);
  free(tasks->process_text);
  free(tasks->thread_text);
  free(tasks->seen.slots);
  *tasks = (struct tasks){0};
  return whole;
}
