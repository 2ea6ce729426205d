/* SPDX-License-Identifier: Apache-2.0 */
#include "description.h"
#include "peek.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct description *found;

void description_begin(void) {
  found = mmap(0, sizeof(*found), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED)
    _exit(3);
}

void note(const char *format, ...) {
  va_list values;
  size_t count = found->note_count;
  if (count >= MAX_NOTES)
    return;
  va_start(values, format);
  vsnprintf(found->notes[count], REASON_SIZE, format, values);
  va_end(values);
  for (size_t i = 0; i < count; i++)
    if (!strcmp(found->notes[i], found->notes[count]))
      return;
  found->note_count++;
}

bool attempt_noted(const char *what, void (*experiment)(void)) {
  char reason[REASON_SIZE];
  bool is_done = attempt(experiment, reason);
  if (!is_done)
    note("%s: %s", what, reason);
  return is_done;
}

long enumeration_find(const struct enumeration *enumeration, const char *name) {
  for (size_t i = 0; i < enumeration->count; i++)
    if (!strcmp(enumeration->names[i], name))
      return i;
  return ABSENT;
}

pid_t copy_begin(void (*work)(void)) {
  pid_t copy = fork();
  if (copy < 0)
    unfit("no copy of the process can be made");
  if (!copy) {
    peek_begin();
    work();
    _exit(0);
  }
  return copy;
}

bool copy_end(pid_t copy, char failure[REASON_SIZE]) {
  int status = 0;
  pid_t ended;
  while ((ended = waitpid(copy, &status, 0)) < 0 && errno == EINTR)
    ;
  if (ended < 0)
    snprintf(failure, REASON_SIZE, "the engine has hidden its end");
  else if (WIFSIGNALED(status))
    snprintf(failure, REASON_SIZE, "the engine ended with -%d", WTERMSIG(status));
  else
    snprintf(failure, REASON_SIZE, "the engine ended with %d", WEXITSTATUS(status));
  return ended == copy && !status;
}
