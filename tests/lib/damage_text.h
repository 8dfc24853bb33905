/* SPDX-License-Identifier: MIT */
// damage_text: what lib/damage_store.c and lib/damage_oracle.c share.
#ifndef LEAT_TESTS_LIB_DAMAGE_TEXT_H
#define LEAT_TESTS_LIB_DAMAGE_TEXT_H

#include "lib/damage.h"
#include "leat.h"

enum { DAMAGE_TEXT = 96 };

extern const char *const damage_topic[DAMAGE_TOPICS];
extern const int damage_parts[DAMAGE_TOPICS];

// damage_text makes the text of the record that belongs there.
void damage_text(char out[DAMAGE_TEXT], int topic, int part, int64_t offset);
// damage_must ends the program if the test itself could not go on.
void damage_must(const char *what, int rc);
int damage_open(struct crash_os *os, const leat_options *more, leat **mq);

#endif
