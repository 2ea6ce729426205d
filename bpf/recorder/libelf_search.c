/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elfutils 0.192 keeps the search trees of libelf in a library of its own that is in no package, so
 * that libelf.a alone cannot be linked (Debian 13). This stands in for it, and gives way to the
 * real functions where there are any. A tree begins with the root that tsearch(3) uses; the lock
 * behind it is not needed, since only one thread here reads ELF files.
 */
#include <search.h>

#define STAND_IN __attribute__((weak))

typedef int compare_fn(const void *, const void *);
typedef void free_fn(void *);

STAND_IN void eu_search_tree_init(void **root);
STAND_IN void eu_search_tree_fini(void **root, free_fn *free_node);
STAND_IN void *eu_tsearch(const void *key, void **root, compare_fn *compare);
STAND_IN void *eu_tfind(const void *key, void **root, compare_fn *compare);
STAND_IN void *eu_tdelete(const void *key, void **root, compare_fn *compare);

void eu_search_tree_init(void **root) { *root = 0; }

void eu_search_tree_fini(void **root, free_fn *free_node) {
  tdestroy(*root, free_node);
  *root = 0;
}

void *eu_tsearch(const void *key, void **root, compare_fn *compare) {
  return tsearch(key, root, compare);
}

void *eu_tfind(const void *key, void **root, compare_fn *compare) {
  return tfind(key, root, compare);
}

void *eu_tdelete(const void *key, void **root, compare_fn *compare) {
  return tdelete(key, root, compare);
}
