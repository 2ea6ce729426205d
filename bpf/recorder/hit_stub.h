/* SPDX-License-Identifier: Apache-2.0 */
/* A stub that records (audit/), in this program: what a hit of it takes. */
#ifndef PROFINFER_HIT_STUB_H
#define PROFINFER_HIT_STUB_H

#include <stdbool.h>

extern void (*const hit_stub)(void);

/* What the stub goes on to. */
void hit_nothing(void);

/* On or off, for so many calls at the most; then it is to be switched again. */
void hit_stub_switch(bool on);

#endif
