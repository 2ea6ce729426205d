/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page faults and file reads of the target: which programs see them, how these are attached, and
 * what the kernel itself has counted meanwhile. Faults are the kernel's own software events, which
 * tell major from minor and run when the fault has been served, on every CPU. File reads are pages
 * that come into the page cache while the target runs, from the tracepoint that names inode and
 * page: whatever lies below (disk, network, read-ahead).
 */
#ifndef PROFINFER_MEMORY_H
#define PROFINFER_MEMORY_H

#include <json-c/json.h>
#include <stdbool.h>

#include "programs.h"
#include "source.h"
#include "target.h"

#define READ_EVENT "mm_filemap_add_to_page_cache"
#define READ_TRACEPOINT "filemap/" READ_EVENT

/* The programs that see faults, and the software events that they are at. */
#define FAULT_EVENTS 2
extern const struct fault_event {
  const char *program, *name;
  uint64_t number;
} fault_events[FAULT_EVENTS];

/* The programs' parameters, and the fields of the tracepoint that they are. */
#define READ_FIELDS 3
extern const struct read_field {
  const char *parameter, *field;
  size_t size;
} read_fields[READ_FIELDS];

/* What a reader of recorded file reads has to know; 0 for nothing. */
const char *memory_note(void);

struct memory;

/* What is to be recorded of the target's memory; nothing unless one of them is wanted. */
struct memory *memory_open(const struct target *target, bool faults, bool reads);

/* Adds the programs that are needed, and the parameters of bpf/parameters.h, to what is loaded.
 * EXIT_KERNEL where reads are wanted and cannot be seen. */
void memory_source(const struct memory *memory, struct source *source);

/* Runs the programs from here on. EXIT_PROBES, EXIT_PRIVILEGE, EXIT_KERNEL. */
void memory_begin(struct memory *memory, const struct programs *programs);

/* To be called before every drain: writes where files are mapped now. */
void memory_look(struct memory *memory);

/* To be called more often: the same, if there is anything new. Of a target that ends soon nothing
 * is left. */
void memory_glance(struct memory *memory);

/* Seconds until that, where it is to be sooner than `usual`. */
double memory_nap(const struct memory *memory, double usual);

/* Until here it is recorded. */
void memory_end(struct memory *memory);

/* Writes the headers of the models that were mapped. Read at the end, beside nobody's work. */
void memory_models(struct memory *memory);

/* END's "memory": what the kernel has counted, to compare; 0 where nothing was wanted. A process
 * that is gone cannot be asked: of it "kernel_at_least" has what was counted when it was asked at
 * last. */
json_object *memory_json(const struct memory *memory);

/* What is to be said when the kernel has read much more for the process than came into the page
 * cache in `pages` pages; 0 for nothing. */
char *memory_unseen(const struct memory *memory, uint64_t pages);

/* Adds the programs to END's "event_programs": they run for everybody's faults and reads. */
void memory_event_programs(const struct memory *memory, const struct programs *programs,
                           json_object *list);

/* Adds what a reader of the recording has to know. */
void memory_notes(const struct memory *memory, json_object *notes);

#endif
