/* SPDX-License-Identifier: Apache-2.0 */
/* Why something cannot be had, for those who can do without it. */
#ifndef PROFINFER_PROBLEM_H
#define PROFINFER_PROBLEM_H

#include "failure.h"

struct problem {
  enum exit_code code;
  const char *hint; /* what to do about it; may be empty */
  char *message;    /* in memory of its own */
};

/* Where somebody asks for it (`problem` is not 0) it is put there; else it ends the process. */
void problem_is(struct problem *problem, enum exit_code code, const char *hint, char *message);

#endif
