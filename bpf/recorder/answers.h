/* SPDX-License-Identifier: Apache-2.0 */
/* What profinfer asks about this machine (serve.h lists it), each answered in a process of its own:
 * it may fail, and may take memory. */
#ifndef PROFINFER_ANSWERS_H
#define PROFINFER_ANSWERS_H

#include <json-c/json.h>

/* Finds it out and answers. */
typedef void answer_fn(int socket, json_object *request);

/* What answers a verb; 0 where that is none of these. */
answer_fn *answers_find(const char *verb);

/* An object that says {"answer": verb}. */
json_object *answer(const char *verb);

#endif
