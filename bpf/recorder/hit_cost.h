/* SPDX-License-Identifier: Apache-2.0 */
/* What a hit costs on this kernel, by the kind of instruction under the probe: a self-test. */
#ifndef PROFINFER_HIT_COST_H
#define PROFINFER_HIT_COST_H

#include <json-c/json.h>
#include <stdbool.h>

/*
 * Measures it in this process, on functions of its own, among work (hit_pairs.h). "sites": the cost
 * of a hit with an empty handler in ns by kind, null where the kernel takes no probe; "intervals":
 * two ns by kind, within which that is with 95 %; "settled": whether all of them are narrow;
 * "stub_off_ns": what a stub takes that is off, null where there is none; "empty_handler_ns": the
 * run time of an empty handler as the kernel counts it, the floor of its count. `kinds`: a list of
 * those that are wanted; 0: all. EXIT_KERNEL or EXIT_PRIVILEGE.
 */
json_object *hit_costs(bool by_link, json_object *kinds);

#endif
