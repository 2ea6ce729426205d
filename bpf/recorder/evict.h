/* SPDX-License-Identifier: Apache-2.0 */
/* Drops a model's pages from memory, so that a recording shows how it comes back from storage. */
#ifndef PROFINFER_EVICT_H
#define PROFINFER_EVICT_H

#include <json-c/json.h>

#include "target.h"

/* Evicts the GGUF files that the target has mapped; where it has none mapped yet, those that its
 * command line names, with the other parts of a model that comes in several. START's "evicted": of
 * each its path, size and how many bytes stay in memory (null: the kernel does not tell), for
 * instance because another process has them mapped, too; that is said in a note as well.
 * EXIT_TARGET when there is nothing to evict. */
json_object *evict(const struct target *target, json_object *notes);

#endif
