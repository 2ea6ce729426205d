/* SPDX-License-Identifier: Apache-2.0 */
/* How many files this process may hold open: a recorder needs more than some shells allow. */
#ifndef PROFINFER_DESCRIPTORS_H
#define PROFINFER_DESCRIPTORS_H

#include <stddef.h>

/* First of all in this program: nothing that it opens shall become standard input, output or error,
 * where what it says would be written to. What is closed stays so for a command. */
void descriptors_reserve(void);

/* Allows for as many as a recording may need, above the hard limit, too, where this process may.
 * EXIT_KERNEL, naming the limit, where that is below what every recording needs. */
void descriptors_allow(void);

/* For so many more, as far as this process may: what is opened on each CPU. */
void descriptors_allow_more(size_t count);

/* In a child that becomes another program: the limits that this process was started with. */
void descriptors_restore(void);

#endif
