/* SPDX-License-Identifier: Apache-2.0 */
/* The engine loaded into this process. Functions are called at load bias + symbol value, so that
 * those that are not exported work as well. */
#ifndef PROFINFER_ENGINE_H
#define PROFINFER_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

/* What the command line says of it. */
void engine_add_object(const char *path);
void engine_add_sibling(const char *path);
void engine_add_symbol(const char *name, unsigned object, uint64_t value);

/* Loads all objects that can be, in whatever order their dependencies need; notes the others.
 * `scratch` is a folder to write into. */
void engine_load(const char *scratch);

/* The path of the object that has the function; 0 when none has. */
const char *engine_home(const char *function);

/* Whether the function can be called. */
bool engine_has(const char *function);

/* Where it is; unfit when the engine has none of that name. */
void *engine_function(const char *function);

/* FUNCTION(int, "name", int, void *)(1, 0) calls it. */
#define FUNCTION(result, name, ...) ((result(*)(__VA_ARGS__))engine_function(name))

#endif
