/* SPDX-License-Identifier: Apache-2.0 */
/* How much a stranger's code may take. */
#ifndef PROFINFER_CONFINE_LIMITS_H
#define PROFINFER_CONFINE_LIMITS_H

/* Before privileges go, while /proc shows the whole system. Should memory run out, this process and
 * its children go first; and processes are counted. */
void limits_prepare(void);

/* Bounds processor time, memory, files, processes and core dumps, for good. */
void limits_set(unsigned seconds);

#endif
