/* Another audit library that redirects ggml_barrier: its wrapper marks what it returns. It stops
 * the process when an object is opened whose name contains $STOP.
 */
#define _GNU_SOURCE
#include "engine.h"
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static struct large (*next)(long);

static struct large wrapper(long x) {
  struct large result = next(x);
  result.words[0] += MARK;
  return result;
}

unsigned int la_version(unsigned int version) { return version; }

unsigned int la_objopen(struct link_map *map, Lmid_t namespace, uintptr_t *cookie) {
  (void)namespace, (void)cookie;
  if (getenv("STOP") && strstr(map->l_name, getenv("STOP")))
    raise(SIGSTOP);
  return LA_FLG_BINDTO | LA_FLG_BINDFROM;
}

uintptr_t la_symbind64(Elf64_Sym *symbol, unsigned int index, uintptr_t *from, uintptr_t *to,
                       unsigned int *flags, const char *name) {
  (void)index, (void)from, (void)to;
  *flags |= LA_SYMB_NOPLTENTER | LA_SYMB_NOPLTEXIT;
  if (strcmp(name, "ggml_barrier"))
    return symbol->st_value;
  next = (struct large(*)(long))symbol->st_value;
  return (uintptr_t)wrapper;
}
