/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words by which a file is known that may hold an engine: they stand in it somewhere, as text. Most
 * programs of a script have none in any file that they have mapped, and nobody has to be asked
 * about them.
 */
#ifndef PROFINFER_ENGINE_MARKS_H
#define PROFINFER_ENGINE_MARKS_H

#include "target.h"

#include <json-c/json.h>

/* The words, a list of strings; 0, or an empty list: every file may hold an engine. */
void engine_marks_set(json_object *words);

/* A file of ours that holds such words, and no engine. */
void engine_marks_pass_over(const char *path);

/* Whether one of these files may hold an engine. */
bool engine_marks_any(const struct target *target, const struct mapping *mappings, size_t count);

/* Whether a file, as it is now, has been found to hold none. */
bool engine_marks_has_none(const struct stat *status);

#endif
