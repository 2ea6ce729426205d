/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of JSON, each with all that was found so far. */
#ifndef PROFINFER_ANSWER_H
#define PROFINFER_ANSWER_H

/* Where they go. */
void answer_begin(int channel);

/* The description as it is now. */
void answer_found(void);

/* Only why there is none, and the notes. */
void answer_error(const char *reason);

#endif
