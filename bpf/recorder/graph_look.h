/* SPDX-License-Identifier: Apache-2.0 */
/* With which arguments an engine's functions are entered that are given graphs: by these profinfer
 * finds a graph in the process's memory. */
#ifndef PROFINFER_GRAPH_LOOK_H
#define PROFINFER_GRAPH_LOOK_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

/* As bpf/launch.h has it. */
struct work {
  uint64_t arguments[2];
};

/* Adds the arguments to a message. */
void work_say(const struct work *work, json_object *message);

/* Waits until a process enters one of some places, which does not stop it (serve.h has the
 * request); whether it has. */
bool graph_look(json_object *request, struct work *work);

#endif
