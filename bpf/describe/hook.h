/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROFINFER_HOOK_H
#define PROFINFER_HOOK_H

/* Overwrites a function's entry by a jump to another; unfit when the system refuses. */
void hook(void *function, void *(*replacement)(void *, void *, void *));

#endif
