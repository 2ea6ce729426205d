/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unit tests of the recorder's modules, one program for each noun. A program links with all modules
 * but main, and may include one's .c file to get at what is static in it, or define a function of
 * another one, which then takes the place of that module's.
 */
#ifndef PROFINFER_HARNESS_H
#define PROFINFER_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failure.h"

/* Ends the program when it does not hold. */
#define CHECK(holds) check(holds, __FILE__, __LINE__, #holds)
#define CHECK_EQUAL(is, wanted)                                                                    \
  check_equal((unsigned long long)(is), (unsigned long long)(wanted), __FILE__, __LINE__, #is)
#define CHECK_TEXT(is, wanted) check_text(is, wanted, __FILE__, __LINE__, #is)

/* A statement ends its process by fail(), with this exit code and these words on stderr. */
#define CHECK_FAILS(code, words, ...)                                                              \
  do {                                                                                             \
    struct child child = begin_child();                                                            \
    if (!child.pid) {                                                                              \
      __VA_ARGS__;                                                                                 \
      _exit(0);                                                                                    \
    }                                                                                              \
    check_child(child, code, words, __FILE__, __LINE__);                                           \
  } while (0)

/* A statement in a process of its own: what modules keep is as at the beginning, and stays so. */
#define CHECK_APART(...) CHECK_FAILS(0, "", __VA_ARGS__)

/* Runs a test, a function without arguments, and says so. */
#define RUN(test) (printf("%s\n", #test), fflush(stdout), test())

static inline void check(bool holds, const char *file, int line, const char *what) {
  if (holds)
    return;
  fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
  abort();
}

static inline void check_equal(unsigned long long is, unsigned long long wanted, const char *file,
                               int line, const char *what) {
  if (is == wanted)
    return;
  fprintf(stderr, "%s:%d: %s is %llu (%#llx), not %llu (%#llx)\n", file, line, what, is, is, wanted,
          wanted);
  abort();
}

static inline void check_text(const char *is, const char *wanted, const char *file, int line,
                              const char *what) {
  if (is && !strcmp(is, wanted))
    return;
  fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", file, line, what, is ? is : "(null)",
          wanted);
  abort();
}

struct child {
  pid_t pid;
  int said; /* its stderr */
};

static inline struct child begin_child(void) {
  int ends[2];
  struct child child = {.pid = -1};
  fflush(0);
  if (!pipe(ends))
    child.pid = fork();
  check(child.pid >= 0, __FILE__, __LINE__, "fork");
  if (!child.pid)
    dup2(ends[1], STDERR_FILENO);
  close(ends[1]);
  child.said = ends[0];
  return child;
}

static inline void check_child(struct child child, int code, const char *words, const char *file,
                               int line) {
  char said[8192];
  size_t length = 0;
  ssize_t got;
  int status;
  while ((got = read(child.said, said + length, sizeof(said) - 1 - length)) > 0)
    length += got;
  said[length] = 0;
  close(child.said);
  waitpid(child.pid, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == code && strstr(said, words))
    return;
  fprintf(stderr, "%s:%d: ended with %#x, not with exit code %d and \"%s\": %s\n", file, line,
          status, code, words, said);
  abort();
}

/* A file in the current folder, which is the test's own. */
static inline void write_file(const char *name, const void *data, size_t length) {
  FILE *file = fopen(name, "w");
  check(file && fwrite(data, 1, length, file) == length && !fclose(file), __FILE__, __LINE__, name);
}

#endif
