/* SPDX-License-Identifier: Apache-2.0 */
#include "mappings.h"
#include "capture.h"
#include "clocks.h"
#include "failure.h"
#include "open_files.h"
#include "set.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of a frame, about. */
#define FRAME 131072

#define QUIET_S 1.0
#define LEAST_NAP_S 2e-3
#define LOOKING 16 /* so many times as long as a look takes passes between two */

/* One look. */
struct look {
  uint64_t ts;
  unsigned frames;
  struct part {
    FILE *file; /* 0 until something is in it */
    char *text;
    size_t length;
  } fresh, gone;
  struct set files; /* that have been looked into */
};

struct mappings mappings_open(const struct target *target) {
  return (struct mappings){.target = target};
}

/* ---- Frames */

static FILE *next_item(struct part *part) {
  if (part->file) {
    fputs(", ", part->file);
  } else {
    part->file = open_memstream(&part->text, &part->length);
    if (!part->file)
      fail(EXIT_KERNEL, "", "out of memory");
  }
  return part->file;
}

static void finish(struct part *part) {
  if (part->file && fclose(part->file))
    fail(EXIT_KERNEL, "", "out of memory");
  part->file = 0;
}

static void write_frame(struct look *look) {
  finish(&look->fresh);
  finish(&look->gone);
  char *json = text("{\"new\": [%s], \"gone\": [%s]}", look->fresh.text ? look->fresh.text : "",
                    look->gone.text ? look->gone.text : "");
  capture_text(FRAME_MAPPINGS, look->ts, json);
  look->frames++;
  free(json);
  free(look->fresh.text);
  free(look->gone.text);
  look->fresh = look->gone = (struct part){0};
}

static void write_when_full(struct look *look, struct part *part) {
  if (ftell(part->file) >= FRAME)
    write_frame(look);
}

/* A text in JSON; it is valid UTF-8. */
static void put_text(FILE *file, const char *text) {
  fputc('"', file);
  for (const char *c = text; *c; c++) {
    if (*c == '"' || *c == '\\')
      fprintf(file, "\\%c", *c);
    else if ((unsigned char)*c < 0x20)
      fprintf(file, "\\u%04x", *c);
    else
      fputc(*c, file);
  }
  fputc('"', file);
}

static void put_fresh(struct look *look, const struct region *region) {
  FILE *file = next_item(&look->fresh);
  char *path = utf8(region->path, region->path_length);
  fprintf(file,
          "{\"start\": %" PRIu64 ", \"end\": %" PRIu64 ", \"offset\": %" PRIu64
          ", \"device\": %" PRIu32 ", \"inode\": %" PRIu64 ", \"path\": ",
          region->start, region->end, region->offset, region->device, region->inode);
  put_text(file, path);
  fputc('}', file);
  free(path);
  write_when_full(look, &look->fresh);
}

static void put_gone(struct look *look, const struct known *known) {
  fprintf(next_item(&look->gone), "{\"start\": %" PRIu64 "}", known->start);
  write_when_full(look, &look->gone);
}

/* ---- What is new and what is gone: both lists are in order of address */

static void add_fresh(struct mappings *mappings, struct look *look, const struct region *region) {
  put_fresh(look, region);
  models_examine(&mappings->models, mappings->target, region, &look->files);
}

static void remember(struct mappings *mappings, size_t count, struct known known) {
  if (count == mappings->room) {
    mappings->room = mappings->room ? 2 * mappings->room : 512;
    mappings->known = reallocarray(mappings->known, mappings->room, sizeof(known));
    mappings->found = reallocarray(mappings->found, mappings->room, sizeof(known));
    if (!mappings->known || !mappings->found)
      fail(EXIT_KERNEL, "", "out of memory");
  }
  mappings->found[count] = known;
}

/* How many regions there are now. */
static size_t compare(struct mappings *mappings, struct look *look, struct listing *listing) {
  size_t count = 0, next = 0, length;
  char *line;
  while ((line = listing_next(listing, &length))) {
    struct region region;
    if (!region_parse(line, length, &region))
      continue;
    struct known now = {region.start, region_identity(&region)};
    if (count && now.start <= mappings->found[count - 1].start)
      continue; /* it was moved while we read */
    while (next < mappings->count && mappings->known[next].start < now.start)
      put_gone(look, &mappings->known[next++]);
    bool is_there = next < mappings->count && mappings->known[next].start == now.start;
    bool is_same = is_there && mappings->known[next].identity == now.identity;
    if (is_there && !is_same)
      put_gone(look, &mappings->known[next]);
    next += is_there;
    remember(mappings, count++, now);
    if (!is_same)
      add_fresh(mappings, look, &region);
  }
  /* Of a process that has ended, but is not reaped, nothing is listed. */
  while (count && next < mappings->count)
    put_gone(look, &mappings->known[next++]);
  return count;
}

/* Of address space; 0 when it has ended. */
static uint64_t pages_of(const struct target *target) {
  char *statm = target_read(target, "statm", 0);
  uint64_t pages = statm ? strtoull(statm, 0, 10) : 0;
  free(statm);
  return pages;
}

void mappings_glance(struct mappings *mappings) {
  uint64_t pages = pages_of(mappings->target), open = open_files_count(mappings->target);
  if (pages != mappings->pages || open != mappings->open)
    mappings->changed = clock_s(CLOCK_MONOTONIC);
  if (pages != mappings->pages)
    mappings_look(mappings);
  else if (!open || open != mappings->open)
    open_files_look(&mappings->models, mappings->target);
  mappings->open = open;
}

double mappings_nap(const struct mappings *mappings) {
  double nap = LOOKING * mappings->took;
  if (clock_s(CLOCK_MONOTONIC) > mappings->changed + QUIET_S)
    return 1;
  return nap > LEAST_NAP_S ? nap : LEAST_NAP_S;
}

void mappings_look(struct mappings *mappings) {
  static struct listing listing;
  struct look look = {.ts = boot_ns()};
  /* Of our own time: how long others had the CPU meanwhile says nothing of what looking costs. */
  double began = clock_s(CLOCK_PROCESS_CPUTIME_ID);
  mappings->pages = pages_of(mappings->target);
  open_files_look(&mappings->models, mappings->target);
  if (!listing_open(&listing, mappings->target))
    return;
  size_t count = compare(mappings, &look, &listing);
  listing_close(&listing);
  free(look.files.slots);
  if (!count)
    return;
  if (!look.frames || look.fresh.file || look.gone.file)
    write_frame(&look);
  struct known *known = mappings->known;
  mappings->known = mappings->found;
  mappings->found = known;
  mappings->count = count;
  mappings->took = clock_s(CLOCK_PROCESS_CPUTIME_ID) - began;
}

void mappings_close(struct mappings *mappings) {
  models_close(&mappings->models);
  free(mappings->known);
  free(mappings->found);
  mappings->known = mappings->found = 0;
  mappings->count = mappings->room = 0;
}
