/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of the kernel's own that our programs call, by numbers that are the running kernel's:
 * libbpf would look for them itself, but reads all of the kernel's types for that. */
#ifndef PROFINFER_KERNEL_FUNCTIONS_H
#define PROFINFER_KERNEL_FUNCTIONS_H

#include "source.h"

#include <bpf/libbpf.h>

/* Puts the source's numbers in the place of ours, before the program is loaded. */
void kernel_functions_set(struct bpf_program *program, const struct source *source);

#endif
