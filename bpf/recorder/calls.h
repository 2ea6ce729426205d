/* SPDX-License-Identifier: Apache-2.0 */
/* Whether calls of redirected functions pass their stubs still: now the loader has bound them. */
#ifndef PROFINFER_CALLS_H
#define PROFINFER_CALLS_H

#include "plan.h"
#include "target.h"

/* Looks at the words that the plan names, and notes which lead elsewhere. A process that has ended
 * cannot be read any more. */
void calls_check(const struct plan *plan, const struct target *target, json_object *notes);

#endif
