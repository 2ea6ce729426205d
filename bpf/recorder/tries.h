/* SPDX-License-Identifier: Apache-2.0 */
/* What can be recorded here, found by trying it: for profinfer doctor. */
#ifndef PROFINFER_TRIES_H
#define PROFINFER_TRIES_H

#include <json-c/json.h>

/* Sets "why" (it cannot be recorded), or what of it is told, as a START frame says it
 * (scheduler_json). */
void try_scheduler(const char *transport, json_object *in);

/* Sets "faults" and "reads" (why each cannot be recorded, "" where it can), hints, and notes. */
void try_memory(json_object *in);

#endif
