/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records that stubs of the audit library have written themselves (audit/rings.h): stubs are
 * switched on in the target's memory, and their rings read out of a file that the target has
 * mapped. Both are the target's own: nothing in them is believed. The file is held open, so that
 * what was recorded last is there whatever has become of the process.
 */
#ifndef PROFINFER_STUB_RINGS_H
#define PROFINFER_STUB_RINGS_H

#include <json-c/json.h>

#include "horizon.h"
#include "plan.h"
#include "rings.h"
#include "target.h"

struct stub_rings;

/* Those of a plan, switched off; 0 where it has none, or the target has ended. EXIT_PROBES, saying
 * why, where they cannot be had. `cpus`: that a record may be of; `size`: bytes of all rings. */
struct stub_rings *stub_rings_open(const struct plan *plan, const struct target *target,
                                   unsigned cpus, size_t size);

/* Before they are switched on: which operators they leave to a probe, those with one of two ops,
 * which tensors have at `op_at`; 0: none. */
void stub_rings_leave(struct stub_rings *rings, uint64_t op_at, const int32_t ops[2]);

/* Switches on the stubs of a plan, and others off; EXIT_PROBES when it cannot. Times count from the
 * first time on. */
void stub_rings_switch(struct stub_rings *rings, const struct plan *plan);

/* Why they are not to record any longer: a thread may not read the counter, or not make the system
 * calls for a ring. Said once; they are off then, and stay so. 0: nothing is in the way. */
const char *stub_rings_problem(struct stub_rings *rings);

/* Switches all of them off. */
void stub_rings_off(struct stub_rings *rings);

/* How full the fullest is, between 0 and 1. */
double stub_rings_fill(const struct stub_rings *rings);

/* Looks how far they have been written by now. */
void stub_rings_look(struct stub_rings *rings);

/* Takes everything out that had been written at the last look, thread by thread, its times in
 * CLOCK_BOOTTIME. What cannot be true is left out, and what is older than `complete`; and what was
 * not to be recorded, outside of [from, until). */
struct look stub_rings_drain(struct stub_rings *rings, uint64_t complete, uint64_t from,
                             uint64_t until, records_fn *take, void *context);

/* How many there were of a kind. */
uint64_t stub_rings_records(const struct stub_rings *rings, unsigned kind);

/* By kind, what did not fit, as seen now; not `is_wanted`: nothing of it so far. What is new of it
 * is no older than the time returned. */
uint64_t stub_rings_losses(struct stub_rings *rings, struct loss losses[KIND_COUNT],
                           bool is_wanted);

/* END's "stub_rings": how many records, how far wrong a time may be, how many were left out, and
 * how many were begun and never finished; 0 for none. */
json_object *stub_rings_json(const struct stub_rings *rings);

/* Adds what a reader has to know of records that are missing. */
void stub_rings_notes(const struct stub_rings *rings, json_object *notes);

#endif
