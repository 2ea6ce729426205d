/* SPDX-License-Identifier: Apache-2.0 */
#include "unfit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static jmp_buf *innermost;
static char last_reason[REASON_SIZE];

void unfit(const char *format, ...) {
  va_list values;
  va_start(values, format);
  vsnprintf(last_reason, sizeof(last_reason), format, values);
  va_end(values);
  if (!innermost)
    _exit(3);
  longjmp(*innermost, 1);
}

bool attempt(void (*experiment)(void), char reason[REASON_SIZE]) {
  jmp_buf here, *volatile outer = innermost;
  if (setjmp(here)) {
    innermost = outer;
    strcpy(reason, last_reason);
    return false;
  }
  innermost = &here;
  experiment();
  innermost = outer;
  return true;
}
