/* SPDX-License-Identifier: Apache-2.0 */
/* The channel: lines of JSON to who asked, before and after a stranger's code runs. */
#ifndef PROFINFER_CONFINE_REPORT_H
#define PROFINFER_CONFINE_REPORT_H

#include <stddef.h>

/* Where the describer finds the channel. */
enum { CHANNEL = 3 };

/* Standard output becomes the channel, and what is printed goes to standard error. */
void report_open(void);

/* Ends this process if nobody listens any more. */
void report_be_heard(void);

/* The channel to its place, among descriptors that are to be inherited; whatever is there goes. */
void report_hand_over(void);

/* {"error": ...}, and the end of this process: what is to be said has been said. */
void report_failure(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* {"unreadable": "NAME: why"}, and the end. */
void report_unreadable(const char *name, int error) __attribute__((noreturn));

/* Memory that is zero; a failure without. */
void *report_allocate(size_t count, size_t size);

/* A text of its own. */
char *report_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
