/* SPDX-License-Identifier: Apache-2.0 */
/* Where a scheduled graph keeps its unique number, where the engine numbers them. */
#ifndef PROFINFER_GRAPH_UID_H
#define PROFINFER_GRAPH_UID_H

/* For a backend that keeps its function to compute graphs there; it is of no use afterwards. */
long graph_uid(void *backend, long graph_compute);

#endif
