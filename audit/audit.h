/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROFINFER_AUDIT_H
#define PROFINFER_AUDIT_H

#define EXPORT __attribute__((visibility("default")))

/* To be called when an engine is loaded: makes ready what its stubs need to record, once. Makes
 * system calls; no stub records because of it. */
void rings_prepare(void);

/* Where the loader keeps __rseq_offset and __rseq_size. */
void rings_know_rseq(const void *offset, const void *size);

#endif
