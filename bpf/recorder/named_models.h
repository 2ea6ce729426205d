/* SPDX-License-Identifier: Apache-2.0 */
/* The files that a process's command line names, as far as they are there: its model may be one. */
#ifndef PROFINFER_NAMED_MODELS_H
#define PROFINFER_NAMED_MODELS_H

#include "target.h"

/* Gets a file, to close it, and its path as the target sees it (valid UTF-8). */
typedef void named_file(void *context, int fd, const char *path);

/* Of a model in parts all, of which the command line names one. */
void named_models(const struct target *target, named_file *take, void *context);

#endif
