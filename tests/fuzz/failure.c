/* SPDX-License-Identifier: Apache-2.0 */
/* The recorder's failure.c of fuzz builds: messages are made and not said, and fail() ends only the
 * input in hand. */
#include "failure.h"
#include "fuzz.h"

#include <stdarg.h>
#include <stdio.h>

static void make(const char *format, va_list arguments) {
  static char line[2048];
  vsnprintf(line, sizeof(line), format, arguments);
}

void fail(enum exit_code code, const char *hint, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  make(format, arguments);
  va_end(arguments);
  fuzz_look_at_text(hint);
  (void)code;
  fuzz_end();
}

void failure_over(int socket, const char *verb) {
  (void)socket;
  fuzz_look_at_text(verb);
}

void tell(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  make(format, arguments);
  va_end(arguments);
}

void warn(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  make(format, arguments);
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
