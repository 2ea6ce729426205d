/* SPDX-License-Identifier: Apache-2.0 */
#include "failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Names come from the target: they must not steer the terminal. */
static void say(const char *what, const char *format, va_list arguments) {
  char line[2048];
  vsnprintf(line, sizeof(line), format, arguments);
  for (char *c = line; *c; c++)
    if ((unsigned char)*c < 0x20 || *c == 0x7f)
      *c = '?';
  fprintf(stderr, "%s%s\n", what, line);
}

void fail(enum exit_code code, const char *hint, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say("profinfer-recorder: ", format, arguments);
  va_end(arguments);
  if (*hint)
    fprintf(stderr, "hint: %s\n", hint);
  exit(code);
}

void tell(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say("", format, arguments);
  va_end(arguments);
}

void warn(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say("profinfer-recorder: warning: ", format, arguments);
  va_end(arguments);
}

void *allocate(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size);
  if (!memory)
    fail(EXIT_KERNEL, "", "out of memory");
  return memory;
}

char *text(const char *format, ...) {
  char *made;
  va_list arguments;
  va_start(arguments, format);
  int length = vasprintf(&made, format, arguments);
  va_end(arguments);
  if (length < 0)
    fail(EXIT_KERNEL, "", "out of memory");
  return made;
}
