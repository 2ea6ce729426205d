/* SPDX-License-Identifier: Apache-2.0 */
/* What profinfer-confine is asked for. Whoever asks is trusted; what the files hold is not. */
#ifndef PROFINFER_CONFINE_ARGUMENTS_H
#define PROFINFER_CONFINE_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A file of the engine. */
struct object {
  int file;         /* opened by who asks: this very inode is meant */
  const char *path; /* in the root that it is loaded in */
  char *placed;     /* where the program finds it, once it has been placed */
};

struct arguments {
  uid_t uid; /* as whom the engine is loaded, never 0 */
  gid_t gid;
  unsigned seconds;    /* that it may take */
  const char *program; /* the describer, a path of ours, as is the model */
  const char *model;
  int mounts;           /* the mount namespace of the engine's process; -1: ours */
  int root;             /* its root directory; -1: ours */
  const char *loader;   /* a path in that root or, with an emulator, below the sysroot */
  const char *emulator; /* what runs code for another processor, or NULL */
  const char *sysroot;  /* with it: that processor's files */
  const char *scratch;  /* a folder of the user's, for where no root can be made */
  bool may_copy;        /* files that the user may not read, and their neighbours */
  struct object *objects;
  size_t object_count;
  int backends;   /* in which object's folder loadable backends are looked for */
  char **symbols; /* as they are handed on: --symbol NAME INDEX VALUE, ... */
  size_t symbol_words;
};

/* Ends with an error on the channel where something is missing or odd. */
struct arguments arguments_parse(int argc, char **argv);

/* The part of a path behind its last slash. */
const char *path_name(const char *path);

/* The part before, without the slash but for "/" itself; the caller frees it. */
char *path_folder(const char *path);

#endif
