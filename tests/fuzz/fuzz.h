/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz targets of the recorder's parsers: each TARGET.c gives one input to one parser. A parser
 * that ends its process by fail() has done what it should: that leads back here, and memory and
 * descriptors that were left are freed (fuzz.c). The same programs replay tests/fuzz/corpus/TARGET
 * in `make test`, with the main() of replay.c in the place of libFuzzer's.
 */
#ifndef PROFINFER_FUZZ_H
#define PROFINFER_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* What a target defines: it reads the input with the parser, and looks at all that came out. */
void fuzz_one(const uint8_t *data, size_t size);

/* A file of these bytes: its descriptor, at its beginning. */
int fuzz_file(const uint8_t *data, size_t size);

/* The same by its path, until the next call. */
const char *fuzz_path(const uint8_t *data, size_t size);

/* Ends the input in hand; what fail() does here. */
_Noreturn void fuzz_end(void);

/* Reads every byte, so that those which are not there are noticed. */
void fuzz_look(const void *data, size_t size);
void fuzz_look_at_text(const char *text);

#endif
