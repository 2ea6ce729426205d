/* SPDX-License-Identifier: Apache-2.0 */
#include "guard.h"
#include "failure.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Not ours at first sight: who ends everything that is named like us does not mean those whom it
 * would leave stopped. */
#define NAME "recording-guard"

#define LOOK_US 2000
/* The kernel takes our programs down one by one, and the last may still stop somebody. */
#define AFTERWARDS_NS 2000000000ull

static int end_pipe = -1; /* it ends with this process; a byte says that all is well */
/* In memory of both: who is out of the map, but may not have been let go on yet. */
static struct held *letting_go;

/* ---- The guard */

static void close_all_but(const int *kept, size_t count) {
  DIR *folder = opendir("/proc/self/fd");
  if (!folder)
    return;
  for (struct dirent *entry; (entry = readdir(folder));) {
    int fd = atoi(entry->d_name);
    bool is_kept = *entry->d_name == '.' || fd == dirfd(folder);
    for (size_t i = 0; i < count; i++)
      is_kept |= fd == kept[i];
    if (!is_kept)
      close(fd);
  }
  closedir(folder);
  /* Nobody's terminal, and no pipe that somebody reads to its end. */
  for (int fd = open("/dev/null", O_RDWR); fd >= 0 && fd < 2;)
    fd = dup(fd);
}

/* The words of the command line lie in a row, as the kernel shows them. */
static void rename_process(void) {
  char shown[4096];
  prctl(PR_SET_NAME, NAME);
  int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  ssize_t length = fd < 0 ? 0 : read(fd, shown, sizeof(shown));
  close(fd);
  char *words = program_invocation_name;
  if (length < (ssize_t)sizeof(NAME) || memcmp(words, shown, strlen(shown) + 1))
    return;
  memset(words, 0, length);
  strcpy(words, NAME);
}

/* Whether somebody is left who does not stand yet. */
static bool let_all_go(int map) {
  static struct held list[HELD_MAX];
  size_t count = held_list(map, list), moving = 0;
  for (size_t i = 0; i < count; i++) {
    enum held_state state = held_look(&list[i]);
    moving += state == HELD_MOVING;
    if (state == HELD_MOVING)
      continue;
    held_delete(map, &list[i]);
    if (state == HELD_STILL)
      held_continue(&list[i]);
  }
  return moving;
}

static _Noreturn void watch(int server, int pipe, int map) {
  char byte;
  struct pollfd waited[] = {{server, POLLIN, 0}, {pipe, POLLIN, 0}};
  while (poll(waited, 2, -1) < 0)
    ;
  if (waited[1].revents && read(pipe, &byte, 1) == 1)
    _exit(0);
  if (letting_go->pid && held_look(letting_go) == HELD_STILL)
    held_continue(letting_go);
  uint64_t until = 0;
  while (let_all_go(map) || !until || monotonic_ns() < until) {
    if (!until && poll(waited, 1, 0) > 0)
      until = monotonic_ns() + AFTERWARDS_NS;
    usleep(LOOK_US);
  }
  _exit(0);
}

static _Noreturn void become_guard(int server, int pipe, int map) {
  int kept[] = {server, pipe, map};
  setsid();
  close_all_but(kept, sizeof(kept) / sizeof(*kept));
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  /* Either may fail: it guards all the same. */
  int failed = chdir("/") | (write(fd, "-1000", 5) < 0);
  (void)failed;
  close(fd);
  rename_process(); /* now it is one */
  watch(server, pipe, map);
}

/* ---- Whom it guards */

void guard_start(int held) {
  int ends[2];
  sigset_t all, usual;
  if (!letting_go)
    letting_go =
        mmap(0, sizeof(*letting_go), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int server = syscall(SYS_pidfd_open, getpid(), 0);
  if (letting_go == MAP_FAILED || server < 0 || pipe2(ends, O_CLOEXEC))
    fail(EXIT_KERNEL, "", "cannot guard who is stopped: %s", strerror(errno));
  sigfillset(&all); /* for it, for good */
  sigprocmask(SIG_BLOCK, &all, &usual);
  /* By a process between: it is nobody's child, so that nobody waits for it. */
  pid_t between = fork();
  if (between == 0) {
    close(ends[1]);
    pid_t guard = fork();
    if (guard == 0)
      become_guard(server, ends[0], held);
    _exit(guard < 0);
  }
  int status = -1;
  while (between > 0 && waitpid(between, &status, 0) < 0 && errno == EINTR)
    ;
  sigprocmask(SIG_SETMASK, &usual, 0);
  close(server);
  close(ends[0]);
  end_pipe = ends[1];
  if (status)
    fail(EXIT_KERNEL, "", "cannot start a process that guards who is stopped");
}

void guard_check(int held) {
  struct pollfd guard = {end_pipe, 0, 0};
  if (end_pipe < 0 || poll(&guard, 1, 0) <= 0)
    return;
  close(end_pipe);
  guard_start(held);
}

void guard_let_go(int map, const struct held *held) {
  letting_go->since = held->since;
  __atomic_store_n(&letting_go->pid, held->pid, __ATOMIC_SEQ_CST);
  /* It can be stopped again as soon as it goes on: before, not after. */
  held_delete(map, held);
  held_continue(held);
  __atomic_store_n(&letting_go->pid, 0, __ATOMIC_SEQ_CST);
}

void guard_end(void) {
  if (end_pipe < 0)
    return;
  /* Where it has been killed, there is nobody to tell. */
  void (*usual)(int) = signal(SIGPIPE, SIG_IGN);
  ssize_t written = write(end_pipe, "x", 1);
  (void)written;
  signal(SIGPIPE, usual);
  guard_leave();
}

void guard_leave(void) {
  if (end_pipe >= 0)
    close(end_pipe);
  end_pipe = -1;
}
