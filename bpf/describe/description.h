/* SPDX-License-Identifier: Apache-2.0 */
/* Everything found so far. It lies in memory that copies of this process share: what one of them
 * found before it crashed is not lost. */
#ifndef PROFINFER_DESCRIPTION_H
#define PROFINFER_DESCRIPTION_H

#include "fields.h"
#include "unfit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MAX_ENUM 512
#define MAX_NOTES 64
#define NAME_SIZE 64
#define GUID_SIZE 16

struct enumeration {
  size_t count;
  char names[MAX_ENUM][NAME_SIZE];
};

/* Without a name where the engine does not use the value. */
struct type {
  char name[NAME_SIZE];
  uint64_t size, block;
};

/* One trial's answer. Offsets are bits, one for every four bytes of the struct. */
#define TRIALS 3
#define TRIAL_FIELDS 9
struct observation {
  char error[REASON_SIZE];
  int argument;
  uint64_t offsets[TRIAL_FIELDS];
};

struct description {
  size_t note_count, type_count;
  char notes[MAX_NOTES][REASON_SIZE];
  struct enumeration operators, unary, glu;
  struct type types[MAX_ENUM];
  char version[520];
  struct fields tensor, cgraph, backend, ubatch;
  unsigned char guid[GUID_SIZE];
  bool is_backend_tried, has_backend, is_ubatch_tried, has_ubatch;
  struct observation observations[TRIALS];
};

extern struct description *found;

void description_begin(void);

/* Adds a text that says what could not be found and why; once. */
__attribute__((format(printf, 1, 2))) void note(const char *format, ...);

/* Runs the experiment; notes why when it was unfit. */
bool attempt_noted(const char *what, void (*experiment)(void));

/* The place of a name in an enumeration, or ABSENT. */
long enumeration_find(const struct enumeration *enumeration, const char *name);

/* Begins the work in a copy of this process. */
pid_t copy_begin(void (*work)(void));

/* Waits for its end; false when that was none of its own. `failure` says how it ended. */
bool copy_end(pid_t copy, char failure[REASON_SIZE]);

#endif
