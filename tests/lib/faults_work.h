/* SPDX-License-Identifier: MIT */
// faults_work: one piece of work through all rooms of a store, for runs in which calls fail.
#ifndef LEAT_TESTS_LIB_FAULTS_WORK_H
#define LEAT_TESTS_LIB_FAULTS_WORK_H

#include "lib/faults_oracle.h"

// faults_run does the work and holds the store to what is owed; what o->os and o->mem are set to
// fail comes meanwhile.
void faults_run(struct oracle *o);

// faults_async is the part of it that is sent asynchronously (faults_async.c): to t, "log".
void faults_async(struct oracle *o, leat_topic *t, bool disk);

#endif
