/* SPDX-License-Identifier: Apache-2.0 */
/* Performance events as a plan describes them (profinfer/kernel/perf_events.py), opened on this
 * machine.
 */
#ifndef PROFINFER_EVENTS_H
#define PROFINFER_EVENTS_H

#include <json-c/json.h>
#include <stdbool.h>

/* A member of an event, or of one of its sources; "" and 0 where it is missing. */
const char *event_text(json_object *event, const char *name);
int64_t event_number(json_object *event, const char *name);

/* Opens it on a CPU, for all tasks there, in the group of `leader` (-1: none). -1 and errno when
 * that cannot be: ENOENT where no PMU of that CPU has it. */
int event_open(json_object *event, unsigned cpu, int leader);

/* Makes it count in all modes, if nobody asked for some of them; whether that is something new. */
bool event_unfilter(json_object *event);

/* Whether the kernel itself counts it, and so always. */
bool event_is_software(json_object *event);

/* The PMUs here, for messages. */
const char *event_pmus(void);

#endif
