/* SPDX-License-Identifier: Apache-2.0 */
/* Making ggml's objects with the engine's own functions. What cannot be made is unfit. */
#ifndef PROFINFER_GGML_H
#define PROFINFER_GGML_H

#include <stdbool.h>
#include <stdint.h>

#define GRAPH_SIZE 128

void *ggml_context(bool has_memory);
void *ggml_tensor(void *context, int type, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3);
void *ggml_pair(const char *operator, void * context, void *a, void *b);
void *ggml_view(void *context, void *tensor, int64_t count, uint64_t offset);
void *ggml_norm(const char *operator, void * context, void *tensor, float epsilon);

/* A graph with that many additions, its nodes in order, and two leaves. */
void *ggml_chain(unsigned count, void **nodes);

#endif
