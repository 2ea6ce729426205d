/* SPDX-License-Identifier: Apache-2.0 */
/* How the recorder gives way to the target. */
#ifndef PROFINFER_PRIORITY_H
#define PROFINFER_PRIORITY_H

#include <stdbool.h>

/* Runs when the target leaves a CPU idle, as between graphs, rather than in its place: its threads
 * wait for each other, so that to stop one is to stop all. Hurried, it runs as it was started.
 * Where neither may be chosen, nothing is lost but manners. */
void priority_give_way(bool is_hurried);

#endif
