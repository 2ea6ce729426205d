/* SPDX-License-Identifier: Apache-2.0 */
#include "problem.h"

void problem_is(struct problem *problem, enum exit_code code, const char *hint, char *message) {
  if (!problem)
    fail(code, hint, "%s", message);
  *problem = (struct problem){code, hint, message};
}
