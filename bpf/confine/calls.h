/* SPDX-License-Identifier: Apache-2.0 */
/* System calls that no engine needs, and that lead out of where it is. */
#ifndef PROFINFER_CONFINE_CALLS_H
#define PROFINFER_CONFINE_CALLS_H

#include <stdbool.h>

/* Refuses them from now on, where the kernel can. Of sockets only those are left that end in the
 * network, and they only where that is empty: sockets in files, to the hypervisor and to the kernel
 * are in no namespace. */
void calls_refuse(bool has_empty_network);

#endif
