/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be loaded: one of the sources of bpf/, with everything that is decided at loading. */
#ifndef PROFINFER_SOURCE_H
#define PROFINFER_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOURCE_ITEMS 96
#define SOURCE_FUNCTIONS 3

/* Programs, maps, parameters and sizes are named as in bpf/. */
struct source {
  const char *name; /* "profinfer", "scheduler" or "launch" */
  bool has_transport;
  bool by_perf;    /* which of its two objects */
  int attach_type; /* expected_attach_type of its programs for uprobes, 0 for none */
  struct {
    const char *name;
    int value; /* of a program: its bpf_prog_type; of a map: nothing; else what it is set to */
  } programs[SOURCE_ITEMS], maps[SOURCE_ITEMS], parameters[SOURCE_ITEMS], sizes[SOURCE_ITEMS];
  size_t program_count, map_count, parameter_count, size_count;
  /* The kernel's numbers of its own functions that the programs call: KERNEL_FUNCTION(0) and so on
   * in bpf/libbpf.h. */
  int functions[SOURCE_FUNCTIONS];
  size_t function_count;
};

/* bpf_prog_type of a program at each kind of place. */
enum program_type {
  AT_UPROBE = 2, /* or a kprobe */
  AT_TRACEPOINT = 5,
  AT_PERF_EVENT = 7,
  AT_RAW_TRACEPOINT = 17,
};

/* One more program to load, once however often it is named. */
void source_program(struct source *source, const char *name, enum program_type type);

/* One more map that user space uses. */
void source_map(struct source *source, const char *name);

/* An integer that the programs are loaded with. */
void source_parameter(struct source *source, const char *name, int32_t value);

/* max_entries of a map (bytes, of a BPF ring buffer). */
void source_size(struct source *source, const char *name, size_t entries);

#endif
