/* SPDX-License-Identifier: Apache-2.0 */
/* An experiment ends when the library does not behave as an engine does. */
#ifndef PROFINFER_UNFIT_H
#define PROFINFER_UNFIT_H

#include <stdbool.h>

#define REASON_SIZE 400

/* Ends the innermost attempt; the text says where it went wrong. */
__attribute__((noreturn, format(printf, 1, 2))) void unfit(const char *format, ...);

/* Runs the experiment; false, with the reason, when something in it was unfit. */
bool attempt(void (*experiment)(void), char reason[REASON_SIZE]);

#endif
