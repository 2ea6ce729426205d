/* SPDX-License-Identifier: Apache-2.0 */
#include "engine.h"
#include "description.h"
#include "loading.h"
#include "peek.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#define MAX_OBJECTS 64
#define MAX_SYMBOLS 128

static struct object {
  const char *path;
  bool is_loaded;
  uint64_t bias;
  char error[REASON_SIZE];
} objects[MAX_OBJECTS];

static struct symbol {
  const char *name;
  unsigned object;
  uint64_t value;
} symbols[MAX_SYMBOLS];

static unsigned object_count, symbol_count;

void engine_add_object(const char *path) {
  if (object_count == MAX_OBJECTS)
    unfit("too many objects");
  objects[object_count++].path = path;
  loading_add_neighbour(path);
}

void engine_add_sibling(const char *path) { loading_add_neighbour(path); }

void engine_add_symbol(const char *name, unsigned object, uint64_t value) {
  if (symbol_count == MAX_SYMBOLS || object >= object_count)
    unfit("too many symbols, or %s is in no object", name);
  symbols[symbol_count++] = (struct symbol){name, object, value};
}

static bool load(struct object *object) {
  struct link_map *map = 0;
  void *handle = loading_open(object->path, object->error);
  if (!handle)
    return false;
  if (dlinfo(handle, RTLD_DI_LINKMAP, &map))
    unfit("%s has no link map", loading_name(object->path));
  peek_all((uint64_t)map, &object->bias, sizeof(object->bias));
  return object->is_loaded = true;
}

static bool load_some(void) {
  bool has_progress = false;
  for (struct object *o = objects; o < objects + object_count; o++)
    if (!o->is_loaded && load(o))
      has_progress = true;
  return has_progress;
}

static bool stand_in(const char *scratch) {
  for (struct object *o = objects; o < objects + object_count; o++)
    if (!o->is_loaded && loading_stand_in(o->path, scratch, o->error))
      return true;
  return false;
}

void engine_load(const char *scratch) {
  /* Nothing stands in for what another of the objects may have. */
  while (load_some() || stand_in(scratch))
    ;
  for (struct object *o = objects; o < objects + object_count; o++)
    if (!o->is_loaded)
      note("%s could not be loaded: %s", loading_name(o->path), o->error);
}

static const struct symbol *find(const char *function) {
  for (unsigned i = 0; i < symbol_count; i++)
    if (!strcmp(symbols[i].name, function) && objects[symbols[i].object].is_loaded)
      return &symbols[i];
  return 0;
}

const char *engine_home(const char *function) {
  const struct symbol *symbol = find(function);
  return symbol ? objects[symbol->object].path : 0;
}

bool engine_has(const char *function) { return find(function); }

void *engine_function(const char *function) {
  const struct symbol *symbol = find(function);
  if (!symbol)
    unfit("no function %s", function);
  return (void *)(objects[symbol->object].bias + symbol->value);
}
