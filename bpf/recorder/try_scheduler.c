/* SPDX-License-Identifier: Apache-2.0 */
#include "features.h"
#include "scheduler.h"
#include "tries.h"

#include <stdlib.h>
#include <unistd.h>

/* Bytes of the rings that are tried. */
#define RING_SIZE 65536

void try_scheduler(const char *transport, json_object *in) {
  struct features features = features_find(transport, "auto", false);
  char *why = 0;
  struct scheduler *scheduler = scheduler_try(true, &features, RING_SIZE, getpid(), &why);
  if (!scheduler) {
    json_object_object_add(in, "why", json_object_new_string(why));
    free(why);
    return;
  }
  json_object *said = scheduler_json(scheduler);
  json_object_object_foreach(said, name, value)
      json_object_object_add(in, name, json_object_get(value));
  json_object_put(said);
}
