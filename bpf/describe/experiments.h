/* SPDX-License-Identifier: Apache-2.0 */
/* The experiments. Each makes objects with values that occur nowhere else and looks for those
 * values in the bytes; what it finds goes into the description. */
#ifndef PROFINFER_EXPERIMENTS_H
#define PROFINFER_EXPERIMENTS_H

/* Names by enum value, and the version. */
void describe_names(void);

/* Offsets in `struct ggml_tensor`; takes the names. */
void describe_tensor(void);

/* Offsets in `struct ggml_cgraph`. */
void describe_cgraph(void);

/* Offsets in `struct ggml_backend`, and the CPU's GUID; where a graph keeps its number. */
void describe_backend(void);

/* Offsets in `llama_ubatch`, with that model, in processes that run meanwhile. */
void describe_ubatch_begin(const char *model);
void describe_ubatch_end(void);

/* Before the others. `folder` is where a build with loadable backends is to find them: next to its
 * libraries, if it is 0. */
void backends_begin(const char *folder);
void backends_load(void);

#endif
