/* SPDX-License-Identifier: Apache-2.0 */
/* How much a stranger's code may take. */
#ifndef PROFINFER_CONFINE_LIMITS_H
#define PROFINFER_CONFINE_LIMITS_H

/* Should memory run out, this process and its children go first. */
void limits_sacrifice(void);

/* Bounds processor time, memory, files and core dumps, for good. */
void limits_set(unsigned seconds);

#endif
